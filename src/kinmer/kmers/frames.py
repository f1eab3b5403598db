"""Reading frames: codons and 4-mers by codon position, without a gene finder.

A *segment* is a run of codons without a stop in one of six frames; in bacteria, one of a hundred codons is
nearly always a gene, or the frame opposite one. A record is read in windows of 65,536 letters from its first
letter on, so that neither threads nor pieces change what is found, and scratch memory is bounded. Within a
window the best segments are taken first, and what overlaps them too much is dropped. The best are long and
read like genes: codons begin with a purine more often than not, and G is rare at their second place. On real
genomes that finds the frames of genes better than length alone (0.89 against 0.82 of the letters at 1 kb).

One scan of the forward letters finds the segments of all six frames under both genetic codes: where the
reverse strand has the stop TAA, the forward strand has TTA. All choices are the same for a window and its
reverse complement."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.kmers.kernels import CLASSES
from kinmer.layout import CODONS

# mypy: disallow_untyped_decorators=False


WINDOW = 65_536
# Segments of at least so many codons are counted; in a window without one, the shorter ones.
LEAST_CODONS, FALLBACK_CODONS = 100, 60
# A segment is dropped where more than one in so many of its letters are taken already.
_OVERLAP = 5

# The genetic codes in the order of a raw table.
CODES = (11, 4)
# A raw table: by genetic code; by least length (windows with a segment of LEAST_CODONS, windows without);
# 64 codons, then 256 4-mers for each codon position.
_PHASES, _WIDTH = 64, 64 + 3 * 256
_TGA, _TGG = 56, 58
_CODONS = np.array([int(codon.translate(str.maketrans("ACGT", "0123")), 4) for codon in CODONS])
RAW_SHAPE = (len(CODES), 2, _WIDTH)

# A sequence is read by code 4 where that reads tryptophan more often as TGA than as TGG, and gains more than
# so many codons for every TGA: a stop that is read through at the end of a gene gains few.
_GAIN = 15

_BREAK = 255
# Bits of `_STOPS` by genetic code and strand.
_ENDS = np.array([[3, 12], [1, 4]], np.uint8)


def _stops() -> NDArray[np.uint8]:
    """What a triplet of the forward strand ends, (64,): 1, 2 a forward frame, 4, 8 a reverse one.

    1, 4: a stop in both codes. 2, 8: TGA, a stop in code 11 alone.
    """
    stops = np.zeros(64, np.uint8)
    for bit, triplets in ((1, ("TAA", "TAG")), (2, ("TGA",)), (4, ("TTA", "CTA")), (8, ("TCA",))):
        for triplet in triplets:
            a, b, c = ("ACGT".index(letter) for letter in triplet)
            stops[16 * a + 4 * b + c] = bit
    return stops


_STOPS = _stops()


def _codes() -> NDArray[np.uint8]:
    """2-bit code of every byte, (256,): _BREAK for letters other than ACGTU, 254 for other bytes."""
    return np.where(CLASSES < 4, CLASSES, np.where(CLASSES == 4, _BREAK - 1, _BREAK)).astype(np.uint8)


_CODE_OF = _codes()


@njit(nogil=True, cache=True)
def _find_segments(codes: Any, n: int, least: int, segments: Any) -> Any:
    """Segments of at least `least` codons in the six frames of codes[:n], for both genetic codes.

    segments : (2, …, 3) int64, filled with start, end, strand (0, or 3 for the reverse one) by genetic code.
    Gives their numbers, (2,).
    """
    opened = np.zeros((2, 2, 3), np.int64)
    for frame in range(3):
        opened[:, :, frame] = frame
    found = np.zeros(2, np.int64)
    word, run, frame = 0, 0, 1
    # Triplet by triplet, then the three places behind the last one, which end every frame.
    for i in range(-2, n + 1):
        ends = np.uint8(15)
        if i + 2 < n:
            letter = codes[i + 2]
            word = ((word << 2) | (letter & 3)) & 63
            run = run + 1 if letter < 4 else 0
            if run >= 3:
                ends = _STOPS[word]
        if ends and i >= 0:
            for code in range(2):
                for strand in range(2):
                    if ends & _ENDS[code, strand]:
                        start = opened[code, strand, frame]
                        if i - start >= 3 * least:
                            one = segments[code, found[code]]
                            one[0], one[1], one[2] = start, i, 3 * strand
                            found[code] += 1
                        opened[code, strand, frame] = i + 3
        frame = frame + 1 if frame < 2 else 0
    return found


@njit(nogil=True, cache=True)
def _keys(codes: Any, segments: Any, keys: Any) -> None:
    """Sort keys of segments: scores, and equal ones by length. The best is highest.

    A codon scores 2 where it begins with a purine, else -1, and 1 less where G is its second letter.
    """
    for s in range(len(segments)):
        start, end, flip = segments[s, 0], segments[s, 1], segments[s, 2]
        first, second = (start, start + 1) if flip == 0 else (start + 2, start + 1)
        purines, guanines = np.int64(0), np.int64(0)
        for i in range(0, end - start, 3):
            # A and G have even codes; on the reverse strand C and T stand for G and A.
            purines += (codes[first + i] ^ flip ^ 1) & 1
            guanines += (codes[second + i] ^ flip) == 2
        keys[s] = ((3 * purines - (end - start) // 3 - guanines) << 32) + end - start


@njit(nogil=True, cache=True)
def _count_segment(codes: Any, start: int, end: int, flip: int, raw: Any) -> None:
    """Add the codons of one segment, and their 4-mers by codon position, to raw (_WIDTH,)."""
    at, step = (start, 1) if flip == 0 else (end - 1, -1)
    before = np.int64(-1)
    for _ in range((end - start) // 3):
        a, b, c = codes[at] ^ flip, codes[at + step] ^ flip, codes[at + 2 * step] ^ flip
        codon = (np.int64(a) << 4) | (np.int64(b) << 2) | np.int64(c)
        raw[codon] += np.uint32(1)
        if before >= 0:
            pair = (before << 6) | codon
            raw[_PHASES + (pair >> 4)] += np.uint32(1)
            raw[_PHASES + 256 + ((pair >> 2) & 255)] += np.uint32(1)
            raw[_PHASES + 512 + (pair & 255)] += np.uint32(1)
        before = codon
        at += 3 * step


@njit(nogil=True, cache=True)
def _taken(used: Any) -> int:
    total = 0
    for one in used:
        total += one
    return total


@njit(nogil=True, cache=True)
def _ascending(keys: Any) -> Any:
    """The order of some hundred keys. NumPy's would be a second of compilation."""
    order = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        at = i
        while at > 0 and keys[order[at - 1]] > keys[i]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i
    return order


@njit(nogil=True, cache=True)
def _count_segments(codes: Any, segments: Any, used: Any, raw: Any) -> None:
    """Count segments from the best to the worst, those dropped that overlap the ones before them.

    Segments of one key are judged together, by those of higher keys alone: which comes first depends on the
    strand. used : (n,) uint8. raw : (_WIDTH,).
    """
    used[:] = 0
    keys = np.empty(len(segments), np.int64)
    _keys(codes, segments, keys)
    order = _ascending(keys)
    last = len(order) - 1
    while last >= 0:
        first = last
        while first >= 0 and keys[order[first]] == keys[order[last]]:
            start, end = segments[order[first], 0], segments[order[first], 1]
            if _taken(used[start:end]) * _OVERLAP > end - start:
                segments[order[first], 2] = -1
            first -= 1
        for place in range(first + 1, last + 1):
            start, end, flip = segments[order[place]]
            if flip >= 0:
                used[start:end] = 1
                _count_segment(codes, start, end, flip, raw)
        last = first


@njit(nogil=True, cache=True)
def add_window(codes: Any, n: int, code: int, raw: Any) -> None:
    """Add the codons and 4-mers in the frames of one window, codes[:n], to `raw` (RAW_SHAPE, uint32).

    code : 0 or 1, place in CODES, or -1 for both.
    """
    segments = np.empty((2, 6 * (n // (3 * FALLBACK_CODONS) + 1), 3), np.int64)
    used = np.empty(n, np.uint8)
    wanted = np.array([code != 1, code != 0])
    for level in range(2):
        found = _find_segments(codes, n, FALLBACK_CODONS if level else LEAST_CODONS, segments)
        for which in range(2):
            if wanted[which] and found[which]:
                _count_segments(codes, segments[which, : found[which]], used, raw[which, level])
                wanted[which] = False
        if not wanted.any():
            break


@njit(nogil=True, cache=True)
def add_span(buffer: Any, start: int, end: int, codes: Any, n: int, code: int, raw: Any) -> int:
    """Go on with buffer[start:end] behind the n letters in `codes`, adding every window that gets full.

    codes : uint8, as many as a window has letters. Gives how many are left in it, of a window not yet full.
    """
    for p in range(start, end):
        letter = _CODE_OF[buffer[p]]
        if letter == _BREAK - 1:
            continue
        codes[n] = letter
        n += 1
        if n == len(codes):
            add_window(codes, n, code, raw)
            n = 0
    return n


@njit(nogil=True, cache=True)
def window_edges(buffer: Any, start: int, end: int, n: int, unit: int) -> Any:
    """Offsets in buffer[start:end], behind n letters of a unit, at which units of `unit` letters end."""
    edges = np.empty((end - start) // unit + 2, np.int64)
    found = 0
    for p in range(start, end):
        n += 1 if _CODE_OF[buffer[p]] != _BREAK - 1 else 0
        if n == unit:
            edges[found] = p + 1
            found += 1
            n = 0
    return edges[:found]


@njit(nogil=True, cache=True)
def finish_row(raw: Any, code: int, row: Any) -> None:
    """Counts of a whole sequence from its raw table; row : (62 + 768,) uint32, in the order of the layout.

    Segments of fewer than LEAST_CODONS count only where no window of the sequence has a longer one.
    """
    levels = np.zeros(2, np.int64)
    codons = np.zeros(2, np.int64)
    for which in range(2):
        codons[which] = raw[which, 0, :_PHASES].sum()
        if codons[which] == 0:
            levels[which] = 1
            codons[which] = raw[which, 1, :_PHASES].sum()
    if code < 0:
        tga, tgg = np.int64(raw[1, levels[1], _TGA]), np.int64(raw[1, levels[1], _TGG])
        code = 1 if tga > tgg and codons[1] - codons[0] > _GAIN * tga else 0
    chosen = raw[code, levels[code]]
    for feature in range(len(_CODONS)):
        row[feature] = chosen[_CODONS[feature]]
    # Slices that are assigned bring a second of compilation with them.
    for phase in range(_WIDTH - _PHASES):
        row[len(_CODONS) + phase] = chosen[_PHASES + phase]


@njit(nogil=True, cache=True)
def frames_of_spans(buffer: Any, spans: Any, window: int, code: int, first: int, counts: Any) -> None:
    """Read the frames of whole sequences into the columns of `counts` (n, width) uint32 from `first` on.

    spans : (n, 2) int64 start and end. window : letters of a window. code : as in `add_window`.
    """
    codes = np.empty(window, np.uint8)
    raw = np.empty(RAW_SHAPE, np.uint32)
    for i in range(len(spans)):
        raw[:] = 0
        n = add_span(buffer, spans[i, 0], spans[i, 1], codes, 0, code, raw)
        add_window(codes, n, code, raw)
        finish_row(raw, code, counts[i, first:])


Submit = Callable[..., Future[Any]]


class FrameRecord:
    """One sequence read piece by piece, cut anywhere.

    submit : runs a function, at once or in another thread. code : as in `frames.add_window`.
    """

    def __init__(self, submit: Submit, code: int, window: int = WINDOW) -> None:
        self._submit, self._code, self._window = submit, code, window
        self._raw = np.zeros(RAW_SHAPE, np.uint32)
        self._codes, self._n = np.empty(window, np.uint8), 0
        self._jobs: list[Future[int]] = []
        self._parts: list[NDArray[np.uint32]] = []

    def begin(self, buffer: NDArray[np.uint8], start: int, end: int, unit: int | None) -> None:
        """Start on buffer[start:end], in jobs of about `unit` letters, or one; `settle` waits for them."""
        edges = []
        if unit is not None:
            letters = max(1, unit // self._window) * self._window
            edges = window_edges(buffer, start, end, self._n, letters).tolist()
        for first, last in pairwise([start, *edges, end]):
            if self._jobs:
                # What went before ends with a full window.
                self._codes, self._n = np.empty(self._window, np.uint8), 0
            raw = np.zeros(RAW_SHAPE, np.uint32)
            self._parts.append(raw)
            job = self._submit(add_span, buffer, first, last, self._codes, self._n, self._code, raw)
            self._jobs.append(job)

    def settle(self) -> None:
        """Wait for all that was started."""
        for job, raw in zip(self._jobs, self._parts, strict=True):
            self._n = job.result()
            self._raw += raw
        self._jobs, self._parts = [], []

    def finish(self, row: NDArray[np.uint32]) -> None:
        """Fill row, (62 + 768,); only once."""
        add_window(self._codes, self._n, self._code, self._raw)
        finish_row(self._raw, self._code, row)
