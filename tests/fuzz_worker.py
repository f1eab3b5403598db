"""Damages copies of an index and asks them, in a process of its own that may hang or crash."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import kinmer.index.nearest
from kinmer.confidence import CLASSES, Calibration
from kinmer.confidence.calibrator import Calibrated, Extent, calibration_of
from kinmer.confidence.features import Spread
from kinmer.confidence.model import NAME_CLASSES, RealmModel
from kinmer.errors import KinmerError
from kinmer.index import IndexWriter
from kinmer.index.commit import Change
from kinmer.index.manifest import read_manifest, write_calibration
from kinmer.index.rows import blob_file
from kinmer.index.sequences import read_letters
from kinmer.library import KinIndex, build_index, check_index
from kinmer.logistic import Logistic
from kinmer.sketches import sketch_many
from tests.living_worker import DIM, Known, letters_of, sequence_of
from tests.organisms import encoder_of, organisms

__all__ = ["DAMAGES", "answers", "begin", "try_all"]

TABLE = organisms(40)


def begin(folder: Path, old: Path) -> None:
    """An index with genomes, pieces, deleted rows and rows that the engine lacks; `old`: as it was before."""
    build_index(TABLE, folder, encoder=encoder_of(), calibrate=False, threads=1).close()
    made = Calibrated(_calibration(), "", Extent(40, 0))
    write_calibration(folder, read_manifest(folder)["index"], made.to_dict())
    shutil.copytree(folder, old)
    new = [(f"n{at}", Known(0, f"kind {at % 5}", f"g{at % 7}")) for at in range(30)]
    with IndexWriter(folder, threads=1) as writer:
        change = Change(writer.table)
        with change.begin():
            change.state("calibrated", True)
        letters = [letters_of(name, 0) for name, _ in new]
        sketches = sketch_many(letters)
        some = [sequence_of(*one) for one in new[:22]]
        writer.add(some, letters=letters[:22], sketches=sketches[:22])
        writer.delete(writer.numbers_of(["s3", "s9", "n4", "n5"]))
        writer.finish(behind=0)
        writer.add([sequence_of(*one) for one in new[22:]], sketches=sketches[22:])
        writer.delete(writer.numbers_of(["s11", "n25"]))
    # Everything that is found out when an index is first used.
    answers(folder)


def _calibration() -> Calibration:
    """One of any numbers."""
    rng = np.random.default_rng(8)

    def logistic(classes: int) -> Logistic:
        return Logistic(rng.random(4), rng.random(4) + 0.1, rng.random((classes, 5)))

    def realm() -> RealmModel:
        known = {3: (rng.random(5), rng.random(5) + 0.1)}
        spread = Spread(np.log([1e3, 5e4]), rng.random((2, 5)), rng.random((2, 5)) + 0.1, known)
        names = tuple(logistic(2) for _ in range(7))
        named = logistic(len(NAME_CLASSES))
        return RealmModel(logistic(len(CLASSES)), names, named, rng.random(7), spread, np.full((7, 2), 0.5))

    account = {"error": rng.random(7).tolist()}
    prior = (0.1, 0.4, 0.25, 0.2, 0.03, 0.02)
    views = {name: (realm(), realm()) for name in ("composition", "both")}
    return Calibration(views, prior, None, (1e3, 5e4), (1e3, 5e4), (0.5, 0.25), account)


def answers(folder: Path) -> list[Any]:
    """All that the index says of some queries, and of its entries."""
    queries = np.random.default_rng(3).normal(size=(12, DIM)).astype(np.float32)
    # The engine is asked even where looking at every vector would be as fast.
    with patch.object(kinmer.index.nearest, "FEW", 0), KinIndex.open(folder, threads=1) as index:
        asked = np.concatenate([queries, index.encoder.embed(TABLE.X[:4])])
        numbers, far, rows = index.search(asked, 9)
        entries = index.entries(numbers)
        genomes = index.genomes(np.array([one.genome for one in entries.values()]))
        told = {
            number: (one.id, one.length, one.gc, one.values, genomes[one.genome].name)
            for number, one in entries.items()
        }
        near, close = index.nearest(asked, 9)
        records = np.asarray(index.rows.records)[near]
        file = blob_file(folder, "letters", index.table.generation)
        places = index.table.blobs("letters", numbers)
        letters = {one: read_letters(file, place) for one, place in places.items()}
        shared = index.shared(sketch_many([letters_of(f"n{at}", 0) for at in range(30)]))
        sizes = index.genome_sketch_sizes(np.arange(int(index.table.state["next_genome"])))
        names = [f"s{at}" for at in range(40)] + [f"n{at}" for at in range(30)]
        calibrated = calibration_of(index)
        assert calibrated is not None
        assert calibrated.calibration is not None
        return [
            calibrated.calibration.to_dict(),
            [[told[number] for number in line] for line in numbers.tolist()],
            far.tolist(),
            rows.tolist(),
            records.tolist(),
            close.tolist(),
            index.numbers_of(names).tolist(),
            [tuple(one) for one in index.table.scan()],
            index.columns,
            letters,
            [shared.query.tolist(), shared.genome.tolist(), shared.count.tolist(), sizes.tolist()],
            {one: kept.tolist() for one, kept in index.entry_sketches(numbers).items()},
            index.has_sketches,
        ]


def _flipped(data: bytearray, rng: np.random.Generator) -> None:
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _scattered(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(len(data), size=64).tolist():
        data[at] = int(rng.integers(256))


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def _emptied(data: bytearray, rng: np.random.Generator) -> None:
    data.clear()


def _zeroed(data: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 4096)))
    data[start:stop] = bytes(stop - start)


def _swapped(data: bytearray, rng: np.random.Generator) -> None:
    """Two stretches of the same length change places."""
    size = int(rng.integers(1, max(2, len(data) // 4)))
    size = 1 << int(np.log2(size))
    a, b = (int(rng.integers(len(data) // size)) * size for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _lengthened(data: bytearray, rng: np.random.Generator) -> None:
    data += rng.bytes(int(rng.integers(1, 5000)))


def _overwritten(data: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 4096)))
    data[start:stop] = rng.bytes(stop - start)


DAMAGES: dict[str, Callable[[bytearray, np.random.Generator], None] | None] = {
    "flipped": _flipped,
    "scattered": _scattered,
    "cut": _cut,
    "emptied": _emptied,
    "zeroed": _zeroed,
    "swapped": _swapped,
    "lengthened": _lengthened,
    "overwritten": _overwritten,
    "gone": None,
    "another's": None,
    "old": None,
}


def _damage(base: Path, old: Path, folder: Path, number: int, silent: bool) -> str:
    """Make `folder` a copy of `base` with one file damaged; says which and how."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    rng = np.random.default_rng(number)
    files = sorted(path.relative_to(base) for path in base.rglob("*") if path.is_file())
    name, kind = files[number % len(files)], list(DAMAGES)[number // len(files) % len(DAMAGES)]
    path = folder / name
    before = path.stat()
    if kind == "old" and (str(name) == "entries.sqlite" or not (old / name).is_file()):
        # An old table is a whole index of its own: as it was before.
        kind = "flipped"
    data = bytearray(path.read_bytes())
    change = DAMAGES[kind]
    if kind == "gone":
        path.unlink()
    elif kind == "another's":
        path.write_bytes((folder / files[int(rng.integers(len(files)))]).read_bytes())
    elif kind == "old":
        path.write_bytes((old / name).read_bytes())
    elif change is not None and data:
        change(data, rng)
        path.write_bytes(data)
    if silent and path.is_file():
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"{number}: {name} {kind}"


def _found_whole(folder: Path) -> bool:
    try:
        return check_index(folder).whole
    except KinmerError:
        return False


def _try(folder: Path, wanted: list[Any], check_first: bool) -> str:
    """What came of a damaged index: "same" answers or an "error", and what the check said of it."""
    whole = _found_whole(folder) if check_first else None
    try:
        said = "same" if answers(folder) == wanted else "wrong"
    except KinmerError as error:
        said = "error" if "\n" not in str(error) else f"error of several lines: {error}"
    whole = _found_whole(folder) if whole is None else whole
    return f"{said}, {'whole' if whole else 'damaged'}"


def try_all(
    base: Path, old: Path, folder: Path, numbers: Sequence[int], silent: bool, pipe: Connection
) -> None:
    """Damage and ask, a copy after the other; sends what is damaged, then what came of it."""
    wanted = answers(base)
    for number in numbers:
        pipe.send(_damage(base, old, folder, number, silent))
        try:
            pipe.send(_try(folder, wanted, check_first=silent or number % 3 == 0))
        except BaseException:
            pipe.send(f"crash: {traceback.format_exc()}")
