"""The libraries that align: which there are, and what each is asked.

skani (Shaw and Yu, Nature Methods 2023) chains sparse k-mers; FastANI (Jain et al., Nature Communications
2018) maps fragments by their minimizers. skani is the faster by far and the default; FastANI is there for the
Pythons that skani has no wheels for.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from kinmer.errors import UsageError
from kinmer.evidence.alignments import Alignment

__all__ = ["ALIGNERS", "Aligner", "FastAni", "Skani", "aligner"]


class Aligner(Protocol):
    """Makes a sketch of a genome's sequences, and aligns queries to it; both from several threads at once."""

    name: str
    # What a sketch holds in memory, for each letter that it is of.
    bytes_per_letter: int

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """What queries are aligned to; sequences: upper-case ACGTN."""
        ...

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """A query, upper-case ACGTN, against a genome; depends on these two alone."""
        ...


_NOTHING = Alignment(None, 0.0)


class Skani:
    """skani, with sketches dense enough for a thousand letters; queries below 500 align to nothing."""

    name = "skani"
    bytes_per_letter = 4
    # One k-mer of 10 is kept for the chains and one of 50 to see whether chains are worth the while; skani's
    # own 125 and 1000 are meant for genomes.
    DENSITY = (10, 50)

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """A database of one genome."""
        import pyskani

        seeds, markers = self.DENSITY
        database = pyskani.Database(compression=seeds, marker_compression=markers)
        database.sketch("genome", *sequences, seed=True)
        return database

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """The mean identity of the chains, as it is: no regression, no trimming."""
        hits = sketch.query("query", query, seed=True, learned_ani=False, cutoff=0.0)
        return _alignment(hits[0].identity, hits[0].query_fraction) if hits else _NOTHING


class FastAni:
    """FastANI with fragments of a thousand letters; shorter queries align to nothing."""

    name = "fastani"
    bytes_per_letter = 12
    _FRAGMENT = 1000

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """A mapper of one genome; None where no sequence has a fragment with anything to map to."""
        import pyfastani

        # The library warns of each one that is too short.
        long = [one for one in sequences if len(one) >= self._FRAGMENT]
        sketch = pyfastani.Sketch(fragment_length=self._FRAGMENT, minimum_fraction=0.0)
        sketch.add_draft("genome", long)
        # Without minimizers, as of nothing but N, the library's index() reads outside its memory.
        return sketch.index() if len(sketch.minimizers) else None

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """The mean identity of the fragments that map."""
        if sketch is None or len(query) < self._FRAGMENT:
            return _NOTHING
        hits = sketch.query_genome(query, threads=1)
        return _alignment(hits[0].identity / 100, hits[0].matches / hits[0].fragments) if hits else _NOTHING


def _alignment(ani: float, fraction: float) -> Alignment:
    return Alignment(min(float(ani), 1.0), min(float(fraction), 1.0)) if fraction > 0 else _NOTHING


_MODULES = {"skani": "pyskani", "fastani": "pyfastani"}
ALIGNERS = tuple(_MODULES)


def aligner(name: str = "auto") -> Aligner:
    """The aligner called so; ``auto``: skani, or FastANI where skani is not installed.

    Raises UsageError where there is none called so, or it is not installed.
    """
    if name not in ("auto", *ALIGNERS):
        raise UsageError(f"the aligner must be auto, {' or '.join(ALIGNERS)}, not {name!r}")
    wanted = ALIGNERS if name == "auto" else (name,)
    here = [one for one in wanted if find_spec(_MODULES[one]) is not None]
    if not here:
        raise UsageError(
            f"{' and '.join(_MODULES[one] for one in wanted)} cannot be imported",
            "evidence by alignment needs it"
            if len(wanted) == 1
            else "evidence by alignment needs one of them",
            "pip install 'kinmer[evidence]'",
        )
    return Skani() if here[0] == "skani" else FastAni()
