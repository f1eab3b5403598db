"""What stands before the ids of a file's sequences, so that those of several samples can be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kinmer.errors import UsageError

__all__ = ["SEPARATOR", "prefixes_of", "sample_of"]

# Between sample and contig, as SemiBin writes and VAMB can be told to read.
SEPARATOR = ":"
_SUFFIXES = re.compile(r"(\.(fna|fasta|fas|fa|ffn|fsa|seq))?(\.(gz|bgz|bz2|xz|zst))?$", re.IGNORECASE)


def sample_of(path: str | Path) -> str:
    """The sample that a file is called after: its name without the suffixes of FASTA and of compression."""
    name = Path(path).name
    return _SUFFIXES.sub("", name) or name


def prefixes_of(
    files: Sequence[str | Path], *, prefix: str = "", sample_from_file: bool = False
) -> list[str]:
    """What to put before the ids of each file: `prefix`, or with `sample_from_file` ``SAMPLE:``.

    Raises UsageError for both, for a prefix that no id may have, for two files of one sample's name, and for
    a stream, which has no name.
    """
    if not sample_from_file:
        if prefix and (not prefix.isprintable() or any(map(str.isspace, prefix))):
            raise UsageError(
                f"the prefix {prefix!r} cannot be used", "an id has no blanks, tabs and line breaks"
            )
        return [prefix] * len(files)
    if prefix:
        raise UsageError(
            "a prefix and samples from the files exclude each other", check="give one of the two"
        )
    seen: dict[str, str | Path] = {}
    for file in files:
        if str(file) == "-":
            raise UsageError(
                "stdin has no name to call a sample after", check="use --prefix, such as --prefix S1:"
            )
        sample = sample_of(file)
        if any(map(str.isspace, sample)) or not sample.isprintable():
            raise UsageError(
                f"the file's name gives the sample {sample!r}",
                "an id has no blanks, tabs and line breaks",
                "rename it, or use --prefix",
                place=file,
            )
        if sample in seen and str(seen[sample]) != str(file):
            raise UsageError(
                f"{seen[sample]} and this file give the same sample, {sample!r}",
                "their sequences could not be told apart",
                "rename one of them, or take them one by one with --prefix",
                place=file,
            )
        seen[sample] = file
    return [sample_of(file) + SEPARATOR for file in files]
