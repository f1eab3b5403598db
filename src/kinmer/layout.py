"""The layout of a profile: a row of named blocks of features, each a composition of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from kinmer.errors import FormatError, UsageError

__all__ = ["Block", "Layout", "canonical_kmers", "kmer_layout", "reverse_complement"]

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
MAX_K = 8


def reverse_complement(sequence: str) -> str:
    """Reverse complement of upper-case ACGT letters."""
    return sequence.translate(_COMPLEMENT)[::-1]


def canonical_kmers(k: int) -> list[str]:
    """The canonical k-mers (the lexicographically smaller of k-mer and reverse complement), sorted."""
    words = ("".join(letters) for letters in product("ACGT", repeat=k))
    return [word for word in words if word <= reverse_complement(word)]


@dataclass(frozen=True)
class Block:
    """One composition: the columns ``start:stop`` of a profile, named such as ``"6-mer"``."""

    name: str
    k: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of features."""
        return self.stop - self.start

    @property
    def columns(self) -> slice:
        """The block's columns."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """Blocks side by side, without gaps; `features` names every column, unique over the whole layout."""

    blocks: tuple[Block, ...]
    features: tuple[str, ...]

    def __post_init__(self) -> None:
        edge = 0
        for block in self.blocks:
            if block.start != edge or block.stop <= block.start:
                raise FormatError(f"the layout's block {block.name} does not start where the last one ends")
            edge = block.stop
        if edge != len(self.features) or len(set(self.features)) != edge:
            raise FormatError("the layout's feature names do not fit its blocks")

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.features)

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of every block, in order."""
        return tuple(block.k for block in self.blocks)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over block names and feature names."""
        text = json.dumps([[block.name for block in self.blocks], list(self.features)])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON form; feature names follow from the k-mer blocks and are not written."""
        return {"blocks": [{"name": block.name, "k": block.k} for block in self.blocks]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layout:
        """Inverse of `to_dict`; raises FormatError for blocks this version does not know."""
        try:
            ks = [int(block["k"]) for block in data["blocks"]]
            names = [block["name"] for block in data["blocks"]]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError("the layout cannot be read", check="was the file edited by hand?") from error
        if names != [f"{k}-mer" for k in ks]:
            raise FormatError(
                f"the layout has blocks that this version does not know: {', '.join(map(str, names))}"
            )
        return kmer_layout(ks=ks)

    def __repr__(self) -> str:
        return f"Layout({', '.join(block.name for block in self.blocks)}; {self.width} features)"


def kmer_layout(max_k: int = 6, *, ks: Sequence[int] | None = None) -> Layout:
    """Layout of the canonical k-mers k = max_k … 1 (or of the given `ks`), largest k first.

    Raises UsageError unless 1 ≤ k ≤ 8 and the ks fall one by one down to 1.
    """
    ks = tuple(range(max_k, 0, -1)) if ks is None else tuple(ks)
    if not ks or ks != tuple(range(len(ks), 0, -1)) or ks[0] > MAX_K:
        raise UsageError(f"k-mer sizes must run from at most {MAX_K} down to 1, not {list(ks)}")
    blocks: list[Block] = []
    features: list[str] = []
    for k in ks:
        words = canonical_kmers(k)
        blocks.append(Block(f"{k}-mer", k, len(features), len(features) + len(words)))
        features.extend(words)
    return Layout(tuple(blocks), tuple(features))
