"""What is trained on: FASTA files or profiles, and whether they fit the settings."""

from __future__ import annotations

from pathlib import Path

from kinmer.clr import REFERENCE_CLR
from kinmer.errors import UsageError
from kinmer.layout import Layout
from kinmer.training.settings import TrainSettings

__all__ = ["check_reference", "fasta_files", "refuse_labels"]

# The reference's transform is over the 2,772 features of the 6- to 1-mers.
REFERENCE_K = 6


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


def check_reference(settings: TrainSettings, layout: Layout | None) -> None:
    """Refuse 7-mers under the reference's transform: its joint CLR is over the 6- to 1-mers."""
    if layout is not None and settings.clr == REFERENCE_CLR and layout.ks[0] > REFERENCE_K:
        raise UsageError(
            f"the preset reference takes 6- to 1-mers, 2,772 features, these are {layout.width:,}",
            f"{layout.ks[0]}-mers would be another transform than the reference's",
            "leave them out: kinmer import or count with --max-k 6",
        )
