"""Telling FASTA files from profiles."""

from __future__ import annotations

from pathlib import Path

from kinmer.errors import UsageError

__all__ = ["fasta_files", "refuse_labels"]


def fasta_files(source: object) -> list[str | Path] | None:
    """The FASTA files that a source is; None for what `open_profiles` takes."""
    if isinstance(source, list | tuple):
        if len(source) == 1:
            return fasta_files(source[0])
        return list(source)
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    return None if path.is_dir() or path.suffix in (".npy", ".zarr") else [source]


def refuse_labels(*given: object) -> None:
    """UsageError where labels, folds or a layout are given for profiles."""
    if any(one is not None for one in given):
        raise UsageError(
            "labels, folds and a layout belong to FASTA files",
            "profiles are rows already, one a sequence",
            "give the FASTA files, or leave these out",
        )
