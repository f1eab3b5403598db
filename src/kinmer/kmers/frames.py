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
_DIGITS = str.maketrans("ACGT", "0123")
_CODONS = np.array([int(codon.translate(_DIGITS), 4) for codon in CODONS])
RAW_SHAPE = (len(CODES), 2, _WIDTH)

# A sequence is read by code 4 where that reads tryptophan more often as TGA than as TGG, and gains more than
# so many codons for every TGA: a stop that is read through at the end of a gene gains few.
_GAIN = 15

_BREAK = 255


def _stops() -> NDArray[np.uint8]:
    """What a triplet of the forward strand ends, (256,): 1, 2 a forward frame, 4, 8 a reverse one.

    1, 4: a stop in both codes. 2, 8: TGA, a stop in code 11 alone. Triplets with a break are 128 and more.
    """
    stops = np.zeros(256, np.uint8)
    for bit, triplets in ((1, ("TAA", "TAG")), (2, ("TGA",)), (4, ("TTA", "CTA")), (8, ("TCA",))):
        for triplet in triplets:
            stops[int(triplet.translate(_DIGITS), 4)] = bit
    stops[128:] = 15
    return stops


_STOPS = _stops()
# Bits of `_STOPS` by genetic code and strand.
_ENDS = np.array([[3, 12], [1, 4]], np.uint8)
# Triplets as they are read on the two strands, (2, 64).
_READ = np.array(
    [[word, 63 - (word >> 4 | word & 12 | (word & 3) << 4)] for word in range(64)], np.uint8
).T.copy()


def _codes() -> NDArray[np.uint8]:
    """2-bit code of every byte, (256,): _BREAK for letters other than ACGTU, 254 for other bytes."""
    return np.where(CLASSES < 4, CLASSES, np.where(CLASSES == 4, _BREAK - 1, _BREAK)).astype(np.uint8)


_CODE_OF = _codes()


Room = tuple[NDArray[Any], ...]


def make_room(window: int) -> Room:
    """Scratch for windows of so many letters: triplets by frame, stops, segments, keys and order, letters."""
    places, most = window // 3 + 1, 6 * (window // (3 * FALLBACK_CODONS) + 1)
    return (
        np.empty((3, places), np.uint8),
        np.empty(places, np.int32),
        np.empty((2, most, 3), np.int64),
        np.empty((2, most), np.int64),
        np.empty(window, np.uint8),
    )


@njit(nogil=True, cache=True)
def _read_frames(codes: Any, n: int, triplets: Any) -> None:
    """The triplets of codes[:n], frame by frame: 6 bits, or 128 and more where one holds a break."""
    for frame in range(3):
        number = max(0, n - frame) // 3
        letters, row = codes[frame : frame + 3 * number], triplets[frame, :number]
        for i in range(number):
            a, b, c = letters[3 * i], letters[3 * i + 1], letters[3 * i + 2]
            word = np.uint8(a << np.uint8(4)) | np.uint8(b << np.uint8(2)) | c
            row[i] = word | ((a | b | c) & np.uint8(128))


@njit(nogil=True, cache=True)
def _find_segments(triplets: Any, n: int, code: int, stops: Any, segments: Any) -> Any:
    """Segments of at least FALLBACK_CODONS in the six frames of n letters, by genetic code.

    segments : (2, …, 3) int64, filled with start, end, strand (0, or 1 for the reverse one) by genetic code.
    Gives their numbers, (2,).
    """
    found = np.zeros(2, np.int64)
    for frame in range(3):
        number = max(0, n - frame) // 3
        row, k = triplets[frame, :number], 0
        # The places of all stops, without a branch; few are left to be looked at more closely.
        for i in range(number):
            stops[k] = i
            k += _STOPS[row[i]] != 0
        for which in range(2):
            for strand in range(2 if which != 1 - code else 0):
                ends, last = _ENDS[which, strand], -1
                for s in range(k + 1):
                    i, ended = number, True
                    if s < k:
                        i = stops[s]
                        ended = (_STOPS[row[i]] & ends) != 0
                    if ended and i - last > FALLBACK_CODONS:
                        one = segments[which, found[which]]
                        one[0], one[1], one[2] = frame + 3 * (last + 1), frame + 3 * i, strand
                        found[which] += 1
                    last = i if ended else last
    return found


@njit(nogil=True, cache=True)
def _key(row: Any, strand: int) -> int:
    """Sort key of a segment of these triplets: its score, and of equal ones the length. The best is highest.

    A codon scores 2 where it begins with a purine, else -1, and 1 less where G is its second letter.
    """
    # A and G have even codes; on the reverse strand C and T stand for G and A.
    first, purine = (np.uint8(1), np.uint8(1)) if strand else (np.uint8(16), np.uint8(0))
    guanine = np.uint8(4) if strand else np.uint8(8)
    score = np.int32(0)
    for word in row:
        gain = np.int32(3) if word & first == purine else np.int32(0)
        score = np.int32(score + gain - (np.int32(1) if word & np.uint8(12) == guanine else np.int32(0)))
    return int(((np.int64(score) - len(row)) << 32) + 3 * len(row))


@njit(nogil=True, cache=True)
def _total(values: Any) -> int:
    total = np.uint32(0)
    for one in values:
        total = np.uint32(total + np.uint32(one))
    return int(total)


@njit(nogil=True, cache=True)
def _sort(keys: Any, order: Any, n: int) -> None:
    """Fill order[:n] with the ascending order of keys[:n]. NumPy's sort would be a second of compilation."""
    gap = 1
    while gap < n:
        gap = 3 * gap + 1
    for i in range(n):
        order[i] = i
    while gap > 1:
        gap //= 3
        for i in range(gap, n):
            at, one = i, order[i]
            while at >= gap and keys[order[at - gap]] > keys[one]:
                order[at] = order[at - gap]
                at -= gap
            order[at] = one


@njit(nogil=True, cache=True)
def _choose_segments(triplets: Any, segments: Any, keys: Any, used: Any) -> tuple[int, int]:
    """Take segments from the best to the worst, and drop (strand -1) those that overlap the ones before.

    Segments of one key are judged together, by those of higher keys alone: which comes first depends on the
    strand. keys : (2, …) int64, used : (n,) uint8, scratch. Gives 0 where one is of LEAST_CODONS and shorter
    ones are dropped, else 1; and the codons taken.
    """
    level, codons = 1, 0
    for s in range(len(segments)):
        if segments[s, 1] - segments[s, 0] >= 3 * LEAST_CODONS:
            level = 0
    last = -1
    for s in range(len(segments)):
        start, end, strand = segments[s]
        if level == 1 or end - start >= 3 * LEAST_CODONS:
            last += 1
            segments[last, 0], segments[last, 1], segments[last, 2] = start, end, strand
            keys[0, last] = _key(triplets[start % 3, start // 3 : end // 3], strand)
    for s in range(last + 1, len(segments)):
        segments[s, 2] = -1
    order = keys[1]
    _sort(keys[0], order, last + 1)
    used[:] = 0
    while last >= 0:
        first = last
        while first >= 0 and keys[0, order[first]] == keys[0, order[last]]:
            start, end = segments[order[first], 0], segments[order[first], 1]
            if _total(used[start:end]) * _OVERLAP > end - start:
                segments[order[first], 2] = -1
            first -= 1
        for place in range(first + 1, last + 1):
            start, end, strand = segments[order[place]]
            if strand >= 0:
                used[start:end] = 1
                codons += (end - start) // 3
        last = first
    return level, codons


@njit(nogil=True, cache=True)
def _count_tryptophan(triplets: Any, segments: Any) -> tuple[int, int]:
    """How often the segments taken read TGA, and how often TGG."""
    tga, tgg = 0, 0
    for s in range(len(segments)):
        start, end, strand = segments[s]
        if strand >= 0:
            for one in triplets[start % 3, start // 3 : end // 3]:
                tga += one == _READ[strand, _TGA]
                tgg += one == _READ[strand, _TGG]
    return tga, tgg


@njit(nogil=True, cache=True)
def _count_segments(triplets: Any, segments: Any, raw: Any) -> None:
    """Add the codons of the segments taken, and their 4-mers by codon position, to raw (_WIDTH,)."""
    codons, ones = raw[:_PHASES], raw[_PHASES : _PHASES + 256]
    twos, threes = raw[_PHASES + 256 : _PHASES + 512], raw[_PHASES + 512 :]
    for s in range(len(segments)):
        start, end, strand = segments[s]
        if strand < 0:
            continue
        row, read = triplets[start % 3, start // 3 : end // 3], _READ[strand]
        # Of two codons side by side the first read is in front; that is the last one on the reverse strand.
        shift = np.uint32(0 if strand else 6)
        before = np.uint32(read[row[0]])
        codons[before] += np.uint32(1)
        for i in range(1, len(row)):
            codon = np.uint32(read[row[i]])
            pair = np.uint32(before << shift) | np.uint32(codon << np.uint32(6 - shift))
            codons[codon] += np.uint32(1)
            ones[pair >> np.uint32(4)] += np.uint32(1)
            twos[(pair >> np.uint32(2)) & np.uint32(255)] += np.uint32(1)
            threes[pair & np.uint32(255)] += np.uint32(1)
            before = codon


@njit(nogil=True, cache=True)
def _is_fourth(codons: Any, tga: int, tgg: int) -> bool:
    """Whether a sequence is read by code 4; codons : (2,) counted by each code, the others by code 4."""
    return bool(tga > tgg and codons[1] - codons[0] > _GAIN * tga)


@njit(nogil=True, cache=True)
def add_window(codes: Any, n: int, code: int, whole: bool, raw: Any, room: Any) -> int:
    """Add the codons and 4-mers in the frames of one window, codes[:n], to `raw` (RAW_SHAPE, uint32).

    code : 0 or 1, place in CODES, or -1 for both. whole : the window is a whole sequence, whose code is then
    chosen before anything is counted. room : of `make_room`. Gives `code`, or the chosen one.
    """
    triplets, stops, segments, keys, used = room
    _read_frames(codes, n, triplets)
    found = _find_segments(triplets, n, code, stops, segments)
    levels, codons = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for which in range(2):
        if which != 1 - code:
            of_code = segments[which, : found[which]]
            levels[which], codons[which] = _choose_segments(triplets, of_code, keys, used[:n])
    if whole and code < 0:
        code = 0
        if codons[1] - codons[0] > _GAIN:
            tga, tgg = _count_tryptophan(triplets, segments[1, : found[1]])
            code = int(_is_fourth(codons, tga, tgg))
    for which in range(2):
        if which != 1 - code:
            _count_segments(triplets, segments[which, : found[which]], raw[which, levels[which]])
    return code


@njit(nogil=True, cache=True)
def add_span(
    buffer: Any, start: int, end: int, whole: bool, codes: Any, n: int, code: int, raw: Any, room: Any
) -> tuple[int, int]:
    """Go on with buffer[start:end] behind the n letters in `codes`, adding every window that gets full.

    codes : uint8, as many as a window has letters. whole : the span is a whole sequence, whose last window is
    added too. Gives how many are left in `codes`, of a window not yet full, and what `add_window` gives.
    """
    # One place that adds windows: a second one would be compiled a second time.
    alone = whole
    while True:
        while start < end and n < len(codes):
            letter = _CODE_OF[buffer[start]]
            start += 1
            if letter != _BREAK - 1:
                codes[n] = letter
                n += 1
        if n < len(codes) and not whole:
            return n, code
        code = add_window(codes, n, code, alone and start == end, raw, room)
        n, alone = 0, False
        if start == end:
            return n, code


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
        tga, tgg = raw[1, levels[1], _TGA], raw[1, levels[1], _TGG]
        code = int(_is_fourth(codons, np.int64(tga), np.int64(tgg)))
    chosen = raw[code, levels[code]]
    for feature in range(len(_CODONS)):
        row[feature] = chosen[_CODONS[feature]]
    # Slices that are assigned bring a second of compilation with them.
    for phase in range(_WIDTH - _PHASES):
        row[len(_CODONS) + phase] = chosen[_PHASES + phase]


@njit(nogil=True, cache=True)
def frames_of_spans(buffer: Any, spans: Any, room: Any, code: int, first: int, counts: Any) -> None:
    """Read the frames of whole sequences into the columns of `counts` (n, width) uint32 from `first` on.

    spans : (n, 2) int64 start and end. room : of `make_room`. code : as in `add_window`.
    """
    codes = np.empty(len(room[4]), np.uint8)
    raw = np.empty(RAW_SHAPE, np.uint32)
    for i in range(len(spans)):
        raw[:] = 0
        _, chosen = add_span(buffer, spans[i, 0], spans[i, 1], True, codes, 0, code, raw, room)
        finish_row(raw, chosen, counts[i, first:])


Submit = Callable[..., Future[Any]]


class FrameRecord:
    """One sequence read piece by piece, cut anywhere.

    submit : runs a function, at once or in another thread. code : as in `frames.add_window`.
    """

    def __init__(self, submit: Submit, code: int, window: int = WINDOW) -> None:
        self._submit, self._code, self._window = submit, code, window
        self._raw = np.zeros(RAW_SHAPE, np.uint32)
        self._codes, self._n = np.empty(window, np.uint8), 0
        self._jobs: list[Future[tuple[int, int]]] = []
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
            room = make_room(self._window)
            job = self._submit(
                add_span, buffer, first, last, False, self._codes, self._n, self._code, raw, room
            )
            self._jobs.append(job)

    def settle(self) -> None:
        """Wait for all that was started."""
        for job, raw in zip(self._jobs, self._parts, strict=True):
            self._n, _ = job.result()
            self._raw += raw
        self._jobs, self._parts = [], []

    def finish(self, row: NDArray[np.uint32]) -> None:
        """Fill row, (62 + 768,); only once."""
        add_window(self._codes, self._n, self._code, False, self._raw, make_room(self._window))
        finish_row(self._raw, self._code, row)
