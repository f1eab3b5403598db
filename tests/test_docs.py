"""The pages are short, plain and complete; `make docs` checks their links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kinmer

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


def sentences(page: str) -> list[str]:
    """The sentences of a page, cells of tables too; code is left out."""
    text = re.sub(r"```.*?```", "\n\n", page, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "code", text)
    text = re.sub(r"\|", "\n\n", text)
    parts = re.split(r"[.!?](?:\s|$)|\n\s*\n|\n\s*- ", text)
    return [part for part in parts if len(part.split()) > 2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_few_sentences_have_a_semicolon(page: Path) -> None:
    text = sentences(page.read_text())
    assert sum(";" in sentence for sentence in text) <= 0.05 * len(text)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(r":: kinmer\.(\w+)$", page, flags=re.MULTILINE))
    assert listed == set(kinmer.__all__)


def test_every_command_is_on_the_page_of_commands() -> None:
    from typer.main import get_command

    from kinmer.cli import app

    page = (ROOT / "docs" / "commands.md").read_text()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        names = [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]
        for full in names:
            assert f"kinmer {full}" in page, f"docs/commands.md does not show kinmer {full}"


def test_pages_are_in_the_site() -> None:
    """Every page stands in a table of contents; README is not of the site."""
    tables = "".join(page.read_text() for page in PAGES)
    for page in PAGES[:-1]:
        name = page.relative_to(ROOT / "docs").with_suffix("")
        if str(name) != "index":
            assert f"\n{name}\n" in tables or f"\n{name.name}\n" in tables
