"""The layout of a profile: a row of named blocks of features, each a composition of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from kinmer.errors import FormatError, KinmerError, MismatchError, ProfileError, UsageError
from kinmer.inputs import parse_json

Kind = Literal["k-mer", "codon", "phase"]
GeneticCode = Literal["auto", 11, 4]

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
MAX_K = 8

# The codons that can be counted. TGA, a stop in genetic code 11, is tryptophan in 4: one layout serves both.
CODONS = tuple(codon for codon in map("".join, product("ACGT", repeat=3)) if codon not in ("TAA", "TAG"))


def reverse_complement(sequence: str) -> str:
    """Reverse complement of upper-case ACGT letters."""
    return sequence.translate(_COMPLEMENT)[::-1]


def canonical_kmers(k: int) -> list[str]:
    """The canonical k-mers (the lexicographically smaller of k-mer and reverse complement), sorted."""
    words = ("".join(letters) for letters in product("ACGT", repeat=k))
    return [word for word in words if word <= reverse_complement(word)]


@dataclass(frozen=True)
class Block:
    """One composition: the columns ``start:stop`` of a profile, named such as ``"6-mer"``.

    kind : "k-mer", canonical k-mers of the whole sequence; "codon", codons of its reading frames; "phase",
    k-mers of the coding strand that start at one of the three codon positions.
    """

    name: str
    k: int
    start: int
    stop: int
    kind: Kind = "k-mer"

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
    """Blocks side by side, without gaps; `features` names every column, unique over the whole layout.

    Parameters
    ----------
    genetic_code : GeneticCode
        By which reading frames are read: 11, 4, or "auto", the one of the two that fits a
    Notes
    -----
    sequence. It says how sequences are to be counted, not what the columns mean: `fingerprint` leaves it out.
    """

    blocks: tuple[Block, ...]
    features: tuple[str, ...]
    genetic_code: GeneticCode = "auto"

    def __post_init__(self) -> None:
        if self.genetic_code not in get_args(GeneticCode):
            raise UsageError(f"the genetic code is auto, 11 or 4, not {self.genetic_code!r}")
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
        """The k of every block of k-mers, in order."""
        return tuple(block.k for block in self.kmer_blocks)

    @property
    def kmer_blocks(self) -> tuple[Block, ...]:
        """The blocks of canonical k-mers."""
        return tuple(block for block in self.blocks if block.kind == "k-mer")

    @property
    def bases(self) -> Block:
        """The block of single letters."""
        return next(block for block in self.kmer_blocks if block.k == 1)

    @property
    def options(self) -> str:
        """The options of ``kinmer count`` that profiles of this layout are counted with."""
        return f"--max-k {self.ks[0]}{' --coding' if self.coding else ''}"

    @property
    def coding(self) -> bool:
        """Whether reading frames are counted."""
        return len(self.kmer_blocks) < len(self.blocks)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over block names and feature names."""
        text = json.dumps([[block.name for block in self.blocks], list(self.features)])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON form; feature names follow from the blocks and are not written."""
        blocks: list[dict[str, Any]] = [{"name": block.name, "k": block.k} for block in self.blocks]
        if not self.coding:
            return {"blocks": blocks}
        for block, written in zip(self.blocks, blocks, strict=True):
            written["kind"] = block.kind
        return {"blocks": blocks, "genetic_code": self.genetic_code}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layout:
        """Inverse of `to_dict`; raises FormatError for blocks this version does not know."""
        try:
            # Layouts of k-mers alone are written without kinds.
            kinds = [block.get("kind", "k-mer") for block in data["blocks"]]
            ks = [int(block["k"]) for block in data["blocks"][: kinds.count("k-mer")]]
            names = [block["name"] for block in data["blocks"]]
            layout = _layout(ks, coding=len(ks) < len(names), genetic_code=data.get("genetic_code", "auto"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError("the layout cannot be read", check="was the file edited by hand?") from error
        known = [(block.name, block.kind) for block in layout.blocks]
        if known != list(zip(names, kinds, strict=True)):
            raise FormatError(
                f"the layout has blocks that this version does not know: {', '.join(map(str, names))}"
            )
        return layout

    def __repr__(self) -> str:
        return f"Layout({', '.join(block.name for block in self.blocks)}; {self.width} features)"


def check_layout(wanted: Layout, given: Layout, *, place: str | Path | None = None) -> None:
    """Raise MismatchError, with how to count, where profiles have another layout than an encoder takes."""
    if given.fingerprint != wanted.fingerprint:
        own, theirs = (", ".join(block.name for block in layout.blocks) for layout in (wanted, given))
        raise MismatchError(
            f"the encoder takes {own}, the profiles have {theirs}",
            check=f"count again with {wanted.options}, or use another encoder",
            place=place,
        )


def kmer_layout(max_k: int = 6, *, ks: Sequence[int] | None = None) -> Layout:
    """Layout of the canonical k-mers k = max_k … 1 (or of the given `ks`), largest k first.

    Raises UsageError unless 1 ≤ k ≤ 8 and the ks fall one by one down to 1.
    """
    return _layout(tuple(range(max_k, 0, -1)) if ks is None else tuple(ks))


def profile_layout(max_k: int = 6, *, coding: bool = False, genetic_code: GeneticCode = "auto") -> Layout:
    """Layout of the canonical k-mers k = max_k … 1 and, with `coding`, of the reading frames behind them.

    The blocks of reading frames: ``codon``, the 62 codons of `CODONS`; ``4-mer@1``, ``4-mer@2``, ``4-mer@3``,
    the 256 4-mers of the coding strand that start at codon position 1, 2, 3.

    Raises UsageError unless 1 ≤ max_k ≤ 8, and for a genetic code that is not "auto", 11 or 4.
    """
    return _layout(tuple(range(max_k, 0, -1)), coding=coding, genetic_code=genetic_code)


@lru_cache(maxsize=2 * MAX_K)
def _features(max_k: int, coding: bool) -> tuple[str, ...]:
    return profile_layout(max_k, coding=coding).features


def layout_of_features(
    names: Sequence[str], *, genetic_code: GeneticCode = "auto", place: object = None
) -> Layout:
    """The layout whose columns have these names; ProfileError where there is none.

    genetic_code : the layout's where it has reading frames; names do not say it.
    """
    for max_k in range(1, MAX_K + 1):
        for coding in (False, True):
            features = _features(max_k, coding)
            if len(features) == len(names) and features == tuple(names):
                code: GeneticCode = genetic_code if coding else "auto"
                return profile_layout(max_k, coding=coding, genetic_code=code)
    raise ProfileError(
        f"the {len(names)} columns are not those of canonical k-mers from some k down to 1",
        "every column's place has a meaning",
        "were variables filtered, sorted or renamed?",
        place=None if place is None else str(place),
    )


def genetic_code_in(description: object) -> GeneticCode:
    """The genetic code that ``uns["kinmer"]`` records; "auto" where it records none."""
    try:
        return Layout.from_dict(parse_json(str(description["layout"]))).genetic_code  # type: ignore[index]
    except (KinmerError, KeyError, TypeError, ValueError):
        return "auto"


def _layout(ks: Sequence[int], *, coding: bool = False, genetic_code: GeneticCode = "auto") -> Layout:
    ks = tuple(ks)
    if not ks or ks != tuple(range(len(ks), 0, -1)) or ks[0] > MAX_K:
        raise UsageError(f"k-mer sizes must run from at most {MAX_K} down to 1, not {list(ks)}")
    parts: list[tuple[str, int, Kind, Sequence[str]]] = [
        (f"{k}-mer", k, "k-mer", canonical_kmers(k)) for k in ks
    ]
    if coding:
        parts.append(("codon", 3, "codon", [f"codon:{codon}" for codon in CODONS]))
        words = ["".join(letters) for letters in product("ACGT", repeat=4)]
        parts += [(f"4-mer@{at}", 4, "phase", [f"{at}:{word}" for word in words]) for at in (1, 2, 3)]
    blocks: list[Block] = []
    features: list[str] = []
    for name, k, kind, names in parts:
        blocks.append(Block(name, k, len(features), len(features) + len(names), kind))
        features.extend(names)
    return Layout(tuple(blocks), tuple(features), genetic_code)
