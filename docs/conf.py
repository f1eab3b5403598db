"""How the site is built: `make docs` writes it to site/, and fails on any warning."""

project = "kinmer"
author = "The kinmer authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["notebooks", "*.py"]
html_theme = "sphinx_book_theme"
html_title = "kinmer"
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}
myst_heading_anchors = 3
autodoc_typehints = "none"  # Types stand in the signatures.
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
nitpicky = False
