"""A writer killed at any moment: every acknowledged entry is there once, none half, nothing comes back."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kinmer.index import IndexWriter
from kinmer.index.manifest import BLOBS
from kinmer.index.rows import GENOME, blob_file
from kinmer.index.sequences import read_letters
from kinmer.library import KinIndex, build_index, check_index
from kinmer.sketches import sketch
from tests.living_worker import Known, Model, change, letters_of, vectors_of
from tests.organisms import encoder_of, organisms

ENCODER = encoder_of()
TABLE = organisms(30)
# Seconds from the beginning of a step to the kill: about twice what a step takes.
LATEST = 0.08


def vectors(name: str, known: Known) -> NDArray[np.float32]:
    """The vectors that an entry must have."""
    if name.startswith("s") and known.version == 0:
        return np.asarray(FIRST[int(name[1:])][None])
    return vectors_of(name, known.version)


FIRST = ENCODER.embed(TABLE.X)


def begun(folder: Path) -> Model:
    """An index of one vector a sequence, and its model."""
    build_index(TABLE, folder, encoder=ENCODER, calibrate=False, threads=1).close()
    return Model(
        {
            name: Known(0, str(kind), name)
            for name, kind in zip(TABLE.obs_names, TABLE.obs["kind"], strict=True)
        }
    )


def killed(
    folder: Path, model: Model, seed: int, *, untold: bool = False
) -> tuple[Model, dict[str, Any] | None]:
    """Let a writer work and kill it: the model of what was acknowledged, and the step that was not.

    Every other writer is killed at a random time, the others at a random line of their code; or all between
    a commit and its telling (`untold`).
    """
    rng = np.random.default_rng(1_000_000 + seed)
    steps, late = int(rng.integers(1, 9)), float(rng.uniform(0, LATEST))
    lines = int(np.exp(rng.uniform(np.log(20), np.log(8000)))) if seed % 2 else None
    lines = 0 if untold else lines
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.living_worker"])
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=change, args=(folder, model, seed, theirs, lines), daemon=True)
    worker.start()
    theirs.close()
    told: list[tuple[Any, ...]] = []
    try:
        while lines is not None or sum(one[0] == "begin" for one in told) < steps:
            assert ours.poll(60), "the writer hangs"
            told.append(ours.recv())
        time.sleep(late)
        worker.kill()
        # What the pipe still holds was sent before the kill.
        while True:
            told.append(ours.recv())
    except EOFError:
        worker.join()
    assert worker.exitcode == -signal.SIGKILL, "the writer failed"
    return _acknowledged(model, told)


def _acknowledged(model: Model, told: list[tuple[Any, ...]]) -> tuple[Model, dict[str, Any] | None]:
    """A step is over when the next one begins, and committed where that was told."""
    pending: dict[str, Any] | None = None
    for what, *rest in told:
        if pending is not None:
            model, pending = model.after(pending), None
        if what == "begin":
            pending = rest[0]
    return model, pending


def contents(index: KinIndex) -> dict[str, Known]:
    """What is told of every entry; its version is the one whose vectors it has."""
    genomes = index.table.genomes()
    found: dict[str, Known] = {}
    for entry in index.table.scan():
        assert entry.id not in found
        mine = np.asarray(index.rows.vectors[entry.first : entry.first + entry.rows])
        (kind,) = entry.values
        told = [Known(version, str(kind), genomes[entry.genome].name) for version in range(100)]
        made = found[entry.id] = next(
            (one for one in told if np.array_equal(vectors(entry.id, one), mine)), Known(-1, str(kind), "?")
        )
        check_letters(index, entry.number, entry.id, made)
    return found


def check_letters(index: KinIndex, number: int, name: str, known: Known) -> None:
    """The kept letters and the sketch are those of the entry's version; the first entries have none."""
    place = index.table.blobs("letters", np.array([number])).get(number)
    kept = index.entry_sketches(np.array([number]))
    if name.startswith("s") and known.version == 0:
        assert place is None
        assert not kept
        return
    assert place is not None
    path = blob_file(index.path, "letters", index.table.generation)
    letters = letters_of(name, known.version)
    assert read_letters(path, place) == letters
    assert np.array_equal(kept[number], sketch(letters))


def nearest(model: Model, query: NDArray[np.float32], k: int) -> tuple[list[str], NDArray[np.float64]]:
    """The k nearest entries by brute force in double precision: an entry is as near as its nearest vector."""
    asked = query.astype(np.float64)
    far = {}
    for name, known in model.entries.items():
        rows = vectors(name, known).astype(np.float64)
        far[name] = float((1 - rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked)).min())
    order = sorted(far, key=lambda name: far[name])[:k]
    return order, np.array([far[name] for name in order])


def check_answers(index: KinIndex, model: Model, rng: np.random.Generator) -> None:
    """Hits of present and of deleted entries' own vectors are those of brute force."""
    asked = [vectors(name, known)[-1] for name, known in model.entries.items() if rng.random() < 0.2]
    asked += [
        vectors_of(name.split(",")[0], known.version)[-1] for name, known in list(model.gone.items())[-5:]
    ]
    numbers, far, _ = index.search(np.array(asked), 5)
    names = {number: entry.id for number, entry in index.entries(numbers).items()}
    for query, found, distances in zip(asked, numbers.tolist(), far, strict=True):
        wanted, true = nearest(model, query, 5)
        np.testing.assert_allclose(distances, true, atol=1e-6)
        assert [names[number] for number in found] == wanted


def check_shared(index: KinIndex, model: Model, rng: np.random.Generator) -> None:
    """What present and deleted entries share with genomes is what sets say."""
    have: dict[str, set[int]] = {}
    for name, known in model.entries.items():
        if known.version or name.startswith("n"):
            have.setdefault(known.genome, set()).update(sketch(letters_of(name, known.version)).tolist())
    names = {one.number: one.name for one in index.table.genomes().values()}
    asked = [sketch(letters_of(name, known.version)) for name, known in model.entries.items()]
    asked += [sketch(letters_of(name.split(",")[0], known.version)) for name, known in model.gone.items()]
    asked = [one for one in asked if rng.random() < 0.3]
    found = index.shared(asked)
    wanted = {
        (at, genome, len(hashes.intersection(one.tolist())))
        for at, one in enumerate(asked)
        for genome, hashes in have.items()
    }
    told = zip(found.query.tolist(), map(names.get, found.genome.tolist()), found.count.tolist(), strict=True)
    assert set(told) == {line for line in wanted if line[2]}


def check_rows(index: KinIndex, model: Model) -> None:
    """No row is alive but those of entries and the mean vectors that genomes tell of."""
    alive = index.rows.records[index.rows.alive]
    assert (alive["kind"] != GENOME).sum() == sum(len(vectors(*one)) for one in model.entries.items())
    labels = sorted(one.label for one in index.table.genomes().values() if one.label is not None)
    assert np.flatnonzero(index.rows.alive & (index.rows.records["kind"] == GENOME)).tolist() == labels
    # Every genome has an entry that speaks for it: what a search for genomes asks for.
    genomes = sorted(index.table.genomes())
    assert sorted(index.table.first_members(genomes)) == genomes
    assert index.table.emptied() == []


def run(folder: Path, kills: int, seed: int, *, untold: bool = False) -> Counter[tuple[str, str]]:
    """Kill so many writers of one index; which steps were cut off, and what became of them."""
    model = begun(folder)
    came: Counter[tuple[str, str]] = Counter()
    names = {path.name for path in folder.iterdir()}
    for number in range(kills):
        model, pending = killed(folder, model, seed + number, untold=untold)
        with KinIndex.open(folder, threads=1) as index:
            found = contents(index)
            if pending is not None:
                whole = found != model.entries
                model = model.after(pending) if whole else model
                came[pending["what"], "whole" if whole else "absent"] += 1
            assert found == model.entries, (number, pending)
            assert len(index) == len(model.entries)
            check_rows(index, model)
            check_answers(index, model, np.random.default_rng(number))
            check_shared(index, model, np.random.default_rng(number))
        report = check_index(folder)
        assert report.whole, (number, pending, report.problems)
        assert report.entries == len(model.entries)
    check_leftovers(folder, names)
    return came


def check_leftovers(folder: Path, names: set[str]) -> None:
    """Whoever writes next takes away what killed writers left."""
    with IndexWriter(folder, threads=1) as writer:
        generation = writer.table.generation
    kept = {name.replace("-0.", f"-{generation}.") for name in names}
    kept |= {blob_file(folder, kind, generation).name for kind in BLOBS} | {"homology"}
    assert {path.name for path in folder.iterdir()} - {"entries.sqlite-journal"} <= kept


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The engine is asked even where looking at every vector would be as fast.
    monkeypatch.setattr("kinmer.index.nearest.FEW", 0)
    came = run(tmp_path / "kin.db", 200, seed=0)
    cut = {what for what, _ in came}
    assert cut == {"add", "update", "delete", "metadata", "home", "compact", "finish"}, came


def test_what_was_committed_and_never_told_is_whole(tmp_path: Path) -> None:
    came = run(tmp_path / "kin.db", 20, seed=7000, untold=True)
    assert {what for what, end in came if end == "absent"} == {"compact"}, came
    assert sum(came.values()) == 20


def test_a_few_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinmer.index.nearest.FEW", 0)
    run(tmp_path / "kin.db", 8, seed=5000)
