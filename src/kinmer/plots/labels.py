"""Others' words in pictures: names, titles and ids as they are, never as markup."""

from __future__ import annotations

__all__ = ["plain"]

# A picture grows with its longest line.
LONGEST = 60
# Of no width, and in the font of all pictures.
_JOINT = "\u200b"


def plain(text: object) -> str:
    """A text that matplotlib draws letter by letter: dollars mark no formula, and it stays in legends.

    Controls and other letters that cannot be seen are escaped; what is longer than 60 letters is cut.
    """
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST - 1]}…"
    # A legend leaves out what begins with an underscore.
    return (_JOINT if shown.startswith("_") else "") + shown.replace("$", r"\$")
