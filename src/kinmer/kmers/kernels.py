"""The kernels: letters to 2-bit codes, codes to a histogram of windows, histogram to canonical counts.

Only windows of the largest k are counted. Every window of k - 1 letters either ends one of them or begins
a run of ACGT; so the (k - 1)-mers are the marginals of the k-mers plus what stands at the beginnings of the
runs, exactly, and so on down to 1. A *raw table* holds the 4**k windows and, behind them, how often a run
began with each of the words of 1 … k - 1 letters. Raw tables of two pieces of a sequence are added and
corrected for the windows across the cut, so a sequence may be cut anywhere: between threads, between blocks.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def _postpone_blas() -> None:
    """Let Numba look for SciPy's BLAS when a kernel multiplies matrices, not before the first of any kind.

    None of kinmer's does, and importing `scipy.linalg` takes as long as a small search.
    """
    from numba.np import linalg

    ensure = getattr(linalg, "ensure_blas", None)
    if ensure is None:
        return
    linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ensure


_postpone_blas()

_SKIP, _BREAK, _INVALID = 4, 5, 6
WHITESPACE = b" \t\n\r\v\f"
_NEWLINE, _RETURN = 10, 13

# Windows are counted in chunks whose scratch stays in the first-level cache.
_CHUNK = 4096
_MAX_LINE = 2048
_STRETCH = 256
_SCRATCH = _CHUNK + _MAX_LINE + 64


def _letter_classes() -> NDArray[np.uint8]:
    """Class of every byte, (256,): 0–3 for ACGT, and what the others do."""
    classes = np.full(256, _INVALID, dtype=np.uint8)
    for letter in "RYSWKMBDHVNX-.":
        classes[[ord(letter), ord(letter.lower())]] = _BREAK
    for code, letters in enumerate(("A", "C", "G", "TU")):
        for letter in letters:
            classes[[ord(letter), ord(letter.lower())]] = code
    classes[list(WHITESPACE)] = _SKIP
    return classes


CLASSES = _letter_classes()


@njit(nogil=True, cache=True)
def _code(letters: Any, codes: Any) -> None:
    """2-bit codes of letters, 128 and more where one is not ACGTU; codes: as long as letters."""
    for i in range(len(letters)):
        letter = letters[i]
        upper = letter & np.uint8(0xDF)
        # T and U differ in the last bit alone.
        known = (
            (upper == np.uint8(65))
            | (upper == np.uint8(67))
            | (upper == np.uint8(71))
            | ((upper | np.uint8(1)) == np.uint8(85))
        )
        bits = (letter >> np.uint8(1)) & np.uint8(3)
        codes[i] = (bits ^ (bits >> np.uint8(1))) | (np.uint8(0) if known else np.uint8(128))


@njit(nogil=True, cache=True)
def _copy_codes(coded: Any, codes: Any) -> bool:
    """Copy codes; False where one of them is not of ACGTU."""
    every = np.uint8(0)
    for i in range(len(coded)):
        code = coded[i]
        every |= code
        codes[i] = code
    return bool(every < 128)


@njit(nogil=True, cache=True)
def _code_lines(
    buffer: Any, p: int, end: int, width: int, reach: int, coded: Any, codes: Any, n: int
) -> tuple[int, int]:
    """Code whole lines of `width` bytes, about `reach` bytes, and put them behind the n codes of their run.

    Coding line feeds too and leaving them out afterwards keeps the costly loop long, so that it vectorizes.
    Stops before the first line that is of another width or not only ACGTU. Gives where it
    stopped and the codes so far.
    """
    lines = min((end - p) // (width + 1), max(1, min(reach, _CHUNK - n) // max(1, width)))
    _code(buffer[p : p + lines * (width + 1)], coded[: lines * (width + 1)])
    letters = width - 1 if width > 0 and buffer[p + width - 1] == _RETURN else width
    at = 0
    for _ in range(lines):
        if buffer[p + width] != _NEWLINE or (letters < width and buffer[p + letters] != _RETURN):
            break
        if not _copy_codes(coded[at : at + letters], codes[n : n + letters]):
            break
        n += letters
        p += width + 1
        at += width + 1
    return p, n


@njit(nogil=True, cache=True)
def _count_windows(codes: Any, n: int, k: int, raw: Any, pairs: Any, quads: Any, words: Any) -> int:
    """Count the windows of k among n codes of one run; keeps the last k - 1 codes and gives their number."""
    m = n - k + 1
    if m <= 0:
        return n
    # Overlapping words hold equal bits where they overlap: OR puts any k together from two of them. Slices
    # from a variable place keep the indices plain, or the loops would not vectorize.
    if k == 1:
        for i in range(m):
            words[i] = codes[i]
    else:
        after = codes[1:n]
        for i in range(n - 1):
            pairs[i] = np.uint8(codes[i] << np.uint8(2)) | after[i]
        if k < 4:
            shift = np.uint16(2 * (k - 2))
            second = pairs[k - 2 : k - 2 + m]
            for i in range(m):
                words[i] = np.uint16(np.uint16(pairs[i]) << shift) | np.uint16(second[i])
        else:
            after = pairs[2 : n - 1]
            for i in range(n - 3):
                quads[i] = np.uint8(pairs[i] << np.uint8(4)) | after[i]
            shift = np.uint16(2 * (k - 4))
            second = quads[k - 4 : k - 4 + m]
            for i in range(m):
                words[i] = np.uint16(np.uint16(quads[i]) << shift) | np.uint16(second[i])
    for i in range(m):
        raw[words[i]] += np.uint32(1)
    for i in range(k - 1):
        codes[i] = codes[m + i]
    return k - 1


@njit(nogil=True, cache=True)
def _heads(k: int, n: int) -> int:
    """Where in a raw table the n-letter beginnings of runs stand: behind the windows and a zero."""
    return (1 << (2 * k)) + 1 + ((1 << (2 * n)) - 4) // 3


@njit(nogil=True, cache=True)
def _begin_run(codes: Any, n: int, k: int, raw: Any) -> None:
    """Note the words of 1 … k - 1 letters that a run begins with; n: all its codes, or at least k - 1."""
    word = 0
    for i in range(min(n, k - 1)):
        word = (word << 2) | codes[i]
        raw[_heads(k, i + 1) + word] += np.uint32(1)


@njit(nogil=True, cache=True)
def _line_width(buffer: Any, start: int, end: int) -> int:
    """Bytes up to the next line feed; -1 where that is further than a line's scratch."""
    for p in range(start, min(end, start + _MAX_LINE)):
        if buffer[p] == _NEWLINE:
            return p - start
    return -1


@njit(nogil=True, cache=True)
def _code_slowly(buffer: Any, p: int, stop: int, classes: Any, codes: Any, n: int) -> tuple[int, int, int]:
    """Code letter by letter up to `stop`, the end of the line or the first letter that is not ACGTU.

    Gives where it stopped, the codes so far, and the class of the byte it stopped at (0 at `stop`, _SKIP
    behind a line feed).
    """
    while p < stop:
        kind = classes[buffer[p]]
        if kind < _SKIP:
            codes[n] = kind
            n += 1
        elif kind > _SKIP:
            return p, n, kind
        elif buffer[p] == _NEWLINE:
            return p + 1, n, kind
        p += 1
    return p, n, 0


@njit(nogil=True, cache=True)
def count_span(buffer: Any, start: int, end: int, classes: Any, k: int, raw: Any) -> tuple[int, int]:
    """Add the windows and run beginnings of buffer[start:end] to `raw`.

    Gives the letters, and the offset of the first byte that is not a nucleotide code (counting stops there),
    or -1. Lines of the expected width are vectorized, and so are stretches of long lines; all else, such as a
    line with an N, goes letter by letter, and the next line sets the width that is expected.
    """
    coded = np.empty(2 * _CHUNK, np.uint8)
    codes = np.empty(_SCRATCH, np.uint8)
    pairs = np.empty(_SCRATCH, np.uint8)
    quads = np.empty(_SCRATCH, np.uint8)
    words = np.empty(_SCRATCH, np.uint16)
    n, letters, p, started = 0, 0, start, False
    # Bytes coded ahead: few where the last attempt met another letter.
    reach = _CHUNK
    width = _line_width(buffer, p, end)
    while p < end:
        before = n
        if width < 0:
            taken = min(reach // 2, end - p)
            _code(buffer[p : p + taken], coded[:taken])
            if _copy_codes(coded[:taken], codes[n : n + taken]):
                n += taken
                p += taken
        elif p + width < end:
            p, n = _code_lines(buffer, p, end, width, reach, coded, codes, n)
        letters += n - before
        ended = False
        if n > before:
            reach = min(_CHUNK, 2 * reach)
        else:
            reach = _STRETCH
            p, n, kind = _code_slowly(buffer, p, min(end, p + _STRETCH), classes, codes, n)
            letters += n - before
            if kind == _INVALID:
                return letters, p
            if kind == _BREAK:
                ended = True
                while p < end and classes[buffer[p]] == _BREAK:
                    p += 1
                    letters += 1
            elif kind == _SKIP:
                width = _line_width(buffer, p, end)
        if n >= _CHUNK or ended or p == end:
            if not started:
                _begin_run(codes, n, k, raw)
            n = _count_windows(codes, n, k, raw, pairs, quads, words)
            n, started = (0, False) if ended else (n, True)
    return letters, -1


@njit(nogil=True, cache=True)
def fold(raw: Any, k: int, sizes: Any, words: Any, mates: Any, row: Any) -> None:
    """Canonical counts of k … 1, row (width,) uint32, from a raw table, which is used up.

    sizes : (k,) features of k, k - 1, … 1. words, mates : (width,) the word of every feature and its reverse
    complement, or where that is the same word 4**k, whose entry is zero.
    """
    feature = 0
    for step in range(k):
        size = 1 << (2 * (k - step))
        if step > 0:
            at = _heads(k, k - step)
            heads = raw[at : at + size]
            a, c, g, t = raw[:size], raw[size : 2 * size], raw[2 * size : 3 * size], raw[3 * size : 4 * size]
            for word in range(size):
                a[word] += c[word] + g[word] + t[word] + heads[word]
            raw[size] = 0
        for i in range(feature, feature + sizes[step]):
            row[i] = raw[words[i]] + raw[mates[i]]
        feature += sizes[step]


@njit(nogil=True, cache=True)
def count_spans(
    buffer: Any,
    spans: Any,
    classes: Any,
    k: int,
    features: Any,
    counts: Any,
    found: Any,
) -> None:
    """Count whole sequences.

    spans : (n, 2) int64 start and end. features : sizes, words, mates of `fold`. Filled: counts (n, width)
    uint32; found (n, 2) int64, what `count_span` gives.
    """
    sizes, words, mates = features
    raw = np.empty(raw_size(k), np.uint32)
    for i in range(len(spans)):
        raw[:] = 0
        found[i, 0], found[i, 1] = count_span(buffer, spans[i, 0], spans[i, 1], classes, k, raw)
        fold(raw, k, sizes, words, mates, counts[i])


@njit(nogil=True, cache=True)
def measure_spans(buffer: Any, spans: Any, classes: Any, found: Any) -> None:
    """Letters and first invalid byte of whole sequences, as `count_span` gives them; nothing is counted."""
    for i in range(len(spans)):
        letters, invalid = 0, -1
        for p in range(spans[i, 0], spans[i, 1]):
            kind = classes[buffer[p]]
            if kind == _INVALID:
                invalid = p
                break
            letters += 1 if kind != _SKIP else 0
        found[i, 0], found[i, 1] = letters, invalid


@njit(nogil=True, cache=True)
def raw_size(k: int) -> int:
    """Entries of a raw table."""
    return int(_heads(k, k))
