"""Stop-free frames of DNA, and the representatives of protein families that they resemble.

Representatives are found by spaced seeds in an alphabet of twelve groups of amino acids: two on a diagonal
are extended without gaps, as in BLAST (Altschul et al. 1997, doi:10.1093/nar/25.17.3389).
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# What stands between proteins; it ends every segment.
GAP = len(AMINO_ACIDS)
_GROUPS = ("A", "C", "DE", "FY", "G", "H", "ILMV", "KR", "NQ", "P", "ST", "W")
# By letter. GAP belongs to none.
GROUP = np.full(GAP + 1, 255, np.uint8)
for _number, _group in enumerate(_GROUPS):
    GROUP[[AMINO_ACIDS.index(letter) for letter in _group]] = _number
# Places of two seeds, 110111 and 11010011.
SEEDS = np.array([[0, 1, 3, 4, 5], [0, 1, 3, 6, 7]], np.int64)
CODES = len(_GROUPS) ** SEEDS.shape[1]
# The genetic code 11, nucleotides in the order TCAG; GAP for a stop.
_TABLE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
_CODON = np.array([GAP if one == "*" else AMINO_ACIDS.index(one) for one in _TABLE], np.uint8)
_SCORES = """
4 0 9 -2 -3 6 -1 -4 2 5 -2 -2 -3 -3 6 0 -3 -1 -2 -3 6 -2 -3 -1 0 -1 -2 8 -1 -1 -3 -3 0 -4 -3 4 -1 -3
-1 1 -3 -2 -1 -3 5 -1 -1 -4 -3 0 -4 -3 2 -2 4 -1 -1 -3 -2 0 -3 -2 1 -1 2 5 -2 -3 1 0 -3 0 1 -3 0 -3
-2 6 -1 -3 -1 -1 -4 -2 -2 -3 -1 -3 -2 -2 7 -1 -3 0 2 -3 -2 0 -3 1 -2 0 0 -1 5 -1 -3 -2 0 -3 -2 0 -3
2 -2 -1 0 -2 1 5 1 -1 0 0 -2 0 -1 -2 0 -2 -1 1 -1 0 -1 4 0 -1 -1 -1 -2 -2 -2 -1 -1 -1 -1 0 -1 -1 -1
1 5 0 -1 -3 -2 -1 -3 -3 3 -2 1 1 -3 -2 -2 -3 -2 0 4 -3 -2 -4 -3 1 -2 -2 -3 -3 -2 -1 -4 -4 -2 -3 -3
-2 -3 11 -2 -2 -3 -2 3 -3 2 -1 -2 -1 -1 -2 -3 -1 -2 -2 -2 -1 2 7
"""


def _blosum() -> NDArray[np.int32]:
    """BLOSUM62 (Henikoff & Henikoff 1992, doi:10.1073/pnas.89.22.10915), and GAP with everything."""
    scores = np.full((GAP + 1, GAP + 1), -100, np.int32)
    below = np.tril_indices(GAP)
    scores[below] = np.array(_SCORES.split(), np.int32)
    scores[below[::-1]] = scores[below]
    return scores


BLOSUM62 = _blosum()
# Codes with more places say too little. A second seed counts within so many letters of the first.
_MOST, _NEAR = 200, 40
# A segment ends where its score falls so far. Segments that count, and the best one of a representative.
_DROP, _SEGMENT, _LEAST = 16, 40, 75
# Of the scores of further segments so much is chance.
_CHANCE = 25
# Scores of BLOSUM62 to bits.
_BITS = 0.458
# Representatives of a frame that speak for it, of at least half the best one's score.
_BEST = 8
# Diagonals that are remembered at a time.
_SLOTS = 1 << 16
# Places that are looked up at a time.
_AHEAD = 32
# Nucleotides by byte: 0 to 3 for T, C, A, G, where 2 apart is complementary; 4 for others.
NUCLEOTIDES = np.full(256, 4, np.uint8)
for _code, _letters in enumerate((b"TtUu", b"Cc", b"Aa", b"Gg")):
    NUCLEOTIDES[list(_letters)] = _code


# Functions that only others call need no way in from Python.
_inner = njit(nogil=True, cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_inner
def _codon(x: Any, i: int, reverse: bool) -> int:
    """The amino acid at i, on the reverse strand from the end; GAP for a stop or an unknown letter."""
    flip = 0
    if reverse:
        i, flip = len(x) - 1 - i, 2
    step = -1 if reverse else 1
    a, b, c = x[i], x[i + step], x[i + 2 * step]
    if a > 3 or b > 3 or c > 3:
        return GAP
    return int(_CODON[((a ^ flip) << 4) | ((b ^ flip) << 2) | (c ^ flip)])


@njit(nogil=True, cache=True)
def read_frames(x: Any, least: int, proteins: Any, ends: Any) -> int:
    """Stop-free frames of x (n,) uint8 as proteins, the longest first; gives how many there are.

    One of which more than 40 % is taken already is dropped. least : codons of a frame, or 15 % of the letters
    of short ones. proteins : (at least n,) uint8, filled with GAP and proteins with a GAP behind each. ends :
    int64, filled with the positions of these.
    """
    n = len(x)
    short = 3 * min(least, int(n * 0.15))
    spans = np.empty((6 * (n // max(short, 3) + 2), 3), np.int64)
    found = 0
    for frame in range(6):
        start = i = frame % 3
        while True:
            over = i + 3 > n
            if over or _codon(x, i, frame > 2) == GAP:
                if i - start >= max(short, 3):
                    spans[found, 0], spans[found, 1], spans[found, 2] = start, i, frame > 2
                    found += 1
                start = i + 3
            if over:
                break
            i += 3
    taken = np.zeros(n, np.uint8)
    proteins[0], at, kept = GAP, 1, 0
    while kept < len(ends):
        best = -1
        for s in range(found):
            length = spans[s, 1] - spans[s, 0]
            if length > 0 and (best < 0 or length > spans[best, 1] - spans[best, 0]):
                best = s
        if best < 0:
            break
        start, end, reverse = spans[best, 0], spans[best, 1], spans[best, 2]
        spans[best, 1] = start
        first, last = (n - end, n - start) if reverse else (start, end)
        cover = 0
        for i in range(first, last):
            cover += taken[i]
        if cover > 0.4 * (end - start):
            continue
        for i in range(first, last):
            taken[i] = 1
        for i in range(start, end, 3):
            proteins[at] = _codon(x, i, reverse == 1)
            at += 1
        proteins[at], ends[kept] = GAP, at
        at += 1
        kept += 1
    return kept


@_inner
def _seed_code(x: Any, i: int, seed: Any) -> int:
    """Code of a seed at x[i], none of whose places meets a GAP."""
    code = 0
    for place in seed:
        code = code * len(_GROUPS) + GROUP[x[i + place]]
    return code


@njit(nogil=True, cache=True)
def seed_places(x: Any, firsts: Any, places: Any) -> None:
    """Places of x by code of a seed: those of c are places[s, firsts[s, c] : firsts[s, c + 1]], ascending.

    firsts : (seeds, CODES + 1) int32 zeros. places : (seeds, len(x)) int32. A counting sort.
    """
    for s in range(len(SEEDS)):
        span = SEEDS[s, -1]
        for put in (False, True):
            clear = len(x)
            for i in range(len(x) - 1, -1, -1):
                if x[i] == GAP:
                    clear = i
                if i + span < clear:
                    code = _seed_code(x, i, SEEDS[s])
                    if put:
                        firsts[s, code] -= 1
                        places[s, firsts[s, code]] = i
                    else:
                        firsts[s, code] += 1
            if not put:
                total = np.int32(0)
                for code in range(firsts.shape[1]):
                    total += firsts[s, code]
                    firsts[s, code] = total


@njit(nogil=True, cache=True)
def extend(x: Any, i: int, y: Any, p: int, scores: Any) -> tuple[int, int, int]:
    """Score, first and last place in x of the best segment through x[i] and y[p], both ended by GAP.

    Either side ends where its score falls `_DROP` below its best.
    """
    score = best = k = 0
    last = i - 1
    while score >= best - _DROP:
        score += scores[x[i + k], y[p + k]]
        if score > best:
            best, last = score, i + k
        k += 1
    score, before, first, k = 0, 0, i, 1
    while score >= before - _DROP:
        score += scores[x[i - k], y[p - k]]
        if score > before:
            before, first = score, i - k
        k += 1
    return best + before, first, last


@_inner
def _look_up(x: Any, first: int, end: int, limit: int, tables: Any, buckets: Any) -> int:
    """Write where the places of the seeds at x[first:end] are: (places, seeds, 2).

    limit : the end of the frame. All places are read once, none waiting for another, so that they are at hand
    where they are needed. Gives their sum: what is not used is not read.
    """
    firsts, places = tables
    total = 0
    for i in range(first, end):
        for s in range(len(SEEDS)):
            start = stop = np.int32(0)
            if i + SEEDS[s, -1] < limit:
                code = _seed_code(x, i, SEEDS[s])
                start, stop = firsts[s, code], firsts[s, code + 1]
            buckets[i - first, s, 0], buckets[i - first, s, 1] = (
                start,
                stop if stop - start <= _MOST else start,
            )
    for i in range(end - first):
        for s in range(len(SEEDS)):
            for t in range(buckets[i, s, 0], buckets[i, s, 1], 16):
                total += places[s, t]
    return total


@_inner
def _seek(x: Any, first: int, end: int, library: Any, tables: Any, room: Any) -> int:
    """Note the representatives that share a segment with the frame x[first:end]; gives how many."""
    letters, starts = library[0], library[1]
    seen, work, buckets = room[0], room[1], room[4]
    best, total, line, reach, touched = work[0], work[1], work[2], work[3], work[4]
    found = 0
    for i in range(first, end):
        at = (i - first) % len(buckets)
        if at == 0:
            room[5][0] = _look_up(x, i, min(i + len(buckets), end), end, tables, buckets)
        for s in range(len(SEEDS)):
            for t in range(buckets[at, s, 0], buckets[at, s, 1]):
                p = tables[1][s, t]
                d = p - i + len(x)
                slot = d & (_SLOTS - 1)
                before = seen[slot, 1]
                if seen[slot, 0] != d or before < 0 <= i + before:
                    # The first, or the first behind a segment.
                    seen[slot, 0], seen[slot, 1] = d, i
                    continue
                if before < 0 or before == i:
                    continue
                seen[slot, 1] = i
                if i - before > _NEAR:
                    continue
                score, left, right = extend(x, i, letters, p, BLOSUM62)
                seen[slot, 1] = ~right
                if score < _SEGMENT:
                    continue
                r, high = 0, len(starts) - 1
                while high - r > 1:
                    middle = (r + high) >> 1
                    if starts[middle] <= p:
                        r = middle
                    else:
                        high = middle
                if line[r] == d and left <= reach[r]:
                    continue
                line[r], reach[r] = d, right
                if not best[r]:
                    touched[found] = r
                    found += 1
                best[r] = max(best[r], score)
                total[r] += score - _CHANCE
    return found


@_inner
def _speak(found: int, mark: Any, stamp: int, library: Any, room: Any, row: Any) -> None:
    """Fill bits and genera of a frame from the representatives that `_seek` has noted, and forget these."""
    pairs, bounds = library[2], library[3]
    work, chosen = room[1], room[3]
    best, total, touched = work[0], work[1], work[4]
    for t in range(found):
        r = touched[t]
        score = 0
        if best[r] >= _LEAST and pairs[bounds[r]] >= 0:
            score = max(best[r], min(total[r] + _CHANCE, 3 * best[r]))
        best[r], total[r] = 0, score
    count = 0
    while count < _BEST:
        top, high = -1, 0
        for t in range(found):
            r = touched[t]
            if total[r] > high or (total[r] == high > 0 and r < top):
                top, high = r, total[r]
        if top < 0 or high * _BITS < 0.5 * row[1]:
            break
        row[1] = max(row[1], high * _BITS)
        total[top] = 0
        chosen[count] = top
        count += 1
    for t in range(found):
        total[touched[t]] = 0
    for t in range(count):
        for at in range(bounds[chosen[t]], bounds[chosen[t] + 1]):
            pair = pairs[at]
            if pair >= 0 and mark[pair] != stamp:
                mark[pair] = stamp
                row[2 + pair % 3] += 1


@njit(nogil=True, cache=True)
def search_windows(
    dna: Any, spans: Any, part: Any, least: int, library: Any, tables: Any, room: Any, frames: Any, rows: Any
) -> None:
    """What windows of dna (n,), as `read_frames` takes them, resemble.

    spans : (w, 2) of the windows, of which every part[1]-th from part[0] on is searched. least : codons of a
    frame. library : letters, starts, pairs and bounds of `families.Families`; pairs < 0 do not count, nor
    does a representative whose first is. tables : `seed_places` of the letters. room : `scratch`. frames :
    (w, 2) zeros, filled with the numbers of frames and of their letters. rows : (w, f, 5) zeros, filled with
    the letters of frames, bits of their best representatives, and genera that have the best ones on
    chromosomes, plasmids and viruses.
    """
    ends = np.empty(rows.shape[1], np.int64)
    for at in range(part[0], len(spans), part[1]):
        window = dna[spans[at, 0] : spans[at, 1]]
        proteins, first = np.empty(len(window) + 2, np.uint8), 1
        frames[at, 0] = read_frames(window, least, proteins, ends)
        room[0][:], room[1][2], room[2][:] = -1, -1, 0
        for f in range(frames[at, 0]):
            found = _seek(proteins, first, ends[f], library, tables, room)
            rows[at, f, 0] = ends[f] - first
            frames[at, 1] += ends[f] - first
            _speak(found, room[2], f + 1, library, room, rows[at, f])
            first = ends[f] + 1


def scratch(number: int) -> tuple[NDArray[np.int32], ...]:
    """What `search_windows` works with, where there are so many representatives; any number of times.

    By diagonals which one, and the last seed on it or ~ the end of a segment. By representatives best score,
    sum, the diagonal of the last segment and its end; and those found. Marks of pairs, those chosen, and
    where places begin and end.
    """
    seen, work = np.empty((_SLOTS, 2), np.int32), np.zeros((5, number), np.int32)
    marks, buckets = np.empty(1 << 16, np.int32), np.empty((_AHEAD, len(SEEDS), 2), np.int32)
    return seen, work, marks, np.empty(_BEST, np.int32), buckets, np.empty(1, np.int32)
