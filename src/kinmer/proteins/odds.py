"""What the protein families in a sequence say of its kind of molecule."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.proteins.families import COUNTED, Families, read_tensors, windows_of

GENES = "genes-1"
# What names another file of families: a benchmark whose queries are of kinmer's own collection needs one.
VARIABLE = "KINMER_GENES"
_BOX = Path(__file__).parents[1] / "box"
# Windows whose features are computed together; the results do not depend on it.
_PART = 512
# Added to genera of a kind that have a family, and to all of them.
_SOME, _ALL = 0.4, 1.6

Floats = NDArray[np.float64]


def window_features(families: Families, frames: NDArray[np.int64], rows: Floats, lengths: Floats) -> Floats:
    """(w, 62) of windows of `lengths` (w,) letters, from `Families.search`: how many frames they have, and
    how much oftener plasmids or viruses have the families of these than chromosomes have.
    """
    letters, bits, c, p, v = np.moveaxis(rows, 2, 0)
    known = c + p + v > 0
    share = np.where(known, letters / np.maximum(frames[:, 1:], 1), 0)
    on_c, on_p, on_v = ((x + _SOME) / (n + _ALL) for x, n in zip((c, p, v), families.number, strict=True))
    odds, viral = (np.where(known, np.log(on / on_c), 0) for on in (on_p, on_v))
    bits = np.where(known, bits, 0)
    up, down = np.maximum(odds, 0), np.maximum(-odds, 0)
    rare, core = (p >= 2) & (c == 0), (c >= 3) & (p == 0)
    count = known.sum(axis=1)
    low, high = (np.sort(np.where(known, sign * odds, np.inf), axis=1)[:, :2] for sign in (1, -1))
    low, high = np.where(np.isfinite(low), low, 0), -np.where(np.isfinite(high), high, 0)
    most = np.where(known, viral, -np.inf).max(axis=1)
    columns = [
        *(frames[:, 0], frames[:, 1], count, share.sum(axis=1)),
        *(odds.sum(axis=1), odds.sum(axis=1) / np.maximum(count, 1), (odds * share).sum(axis=1)),
        *(high[:, 0], low[:, 0], high[:, 1], low[:, 1]),
        *((x * y).sum(axis=1) for y in (np.ones_like(share), share) for x in (up, down)),
        *(viral.sum(axis=1), np.where(count > 0, most, 0), (viral * share).sum(axis=1)),
        *((x * y).sum(axis=1) for x in (rare, core) for y in (np.ones_like(share), share)),
        *(np.log1p(x).sum(axis=1) for x in (p, c)),
        *(np.log1p(x).max(axis=1) for x in (p, c, bits)),
        (odds * bits).sum(axis=1) / np.maximum(bits.sum(axis=1), 1e-9),
        *((x * bits).sum(axis=1) / 100 for x in (up, down)),
        np.where(known, np.maximum(odds, viral), 0).sum(axis=1),
    ]
    values = np.stack(columns, axis=1).astype(np.float64)
    values = np.sign(values) * np.log1p(np.abs(values))
    return np.concatenate([values, values * np.log(np.maximum(lengths, 1) / 1e4)[:, None]], axis=1)


@dataclass(frozen=True)
class GeneOdds:
    """Families with weights (3, 62) of what they say: see `window_features`."""

    families: Families
    weights: Floats

    def log_odds(self, letters: Sequence[bytes], threads: int = 1) -> Floats:
        """(q, 3) logarithms by which the odds of kinds change: the mean over the windows of a long one."""
        result, count = np.zeros((len(letters), COUNTED)), np.zeros(len(letters))
        dna, spans, owners = windows_of(letters)
        for start in range(0, len(spans), _PART):
            some, own = spans[start : start + _PART], owners[start : start + _PART]
            frames, rows = self.families.search(dna, some, threads)
            features = window_features(self.families, frames, rows, (some[:, 1] - some[:, 0]).astype(float))
            # Line by line: the same bits whatever windows come together.
            odds = np.stack([(features * line).sum(axis=1) for line in self.weights], axis=1)
            odds[frames[:, 0] == 0] = 0
            np.add.at(result, own, odds)
            np.add.at(count, own, 1)
        return result / np.maximum(count, 1)[:, None]

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """As it is kept."""
        return {**self.families.to_tensors(), "weights": self.weights}

    @classmethod
    def read(cls, path: Path) -> GeneOdds:
        """From a file of `to_tensors`; FormatError where it is damaged."""
        kept = read_tensors(path)
        try:
            return cls(Families.from_tensors(kept), kept["weights"].astype(np.float64))
        except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
            raise FormatError(
                "the file of protein families is damaged", str(error), place=str(path)
            ) from error


@cache
def boxed_genes() -> GeneOdds:
    """The families that come with kinmer, or those that `VARIABLE` names."""
    return GeneOdds.read(Path(os.environ.get(VARIABLE) or _BOX / f"{GENES}.safetensors"))


def gene_log_odds(letters: Sequence[bytes], threads: int = 1) -> Floats:
    """(q, 3) logarithms by which the protein families in sequences change the odds of the first three of
    `kinmer.molecules.MOLECULES`, among each other.

    A sequence without frames has 0 everywhere. threads : more than one change only the time.
    """
    return boxed_genes().log_odds(letters, threads)
