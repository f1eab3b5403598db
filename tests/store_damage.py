"""Damages files of a profile store and reads it, in a process of its own that may hang, crash or grow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.layout import kmer_layout
from kinmer.profiles import ProfileStore, ProfileWriter, info, open_profiles
from kinmer.profiles.arrays import create_rows

__all__ = ["DAMAGES", "begin", "try_all"]

ROWS = 620  # A full chunk of 512 rows and one that is partly filled.
COLUMN_ROWS = 128
# What a case may add to what the process has when it begins.
MEMORY = 2 << 30
Random = np.random.Generator


def counts_of(rows: int) -> NDArray[np.uint32]:
    """Counts of rows that differ, sparse as those of sequences of some hundred bases."""
    random = np.random.default_rng(rows)
    counts = random.poisson(0.3, (rows, kmer_layout(6).width)).astype(np.uint32)
    counts[:, -2:] = random.integers(200, 900, (rows, 2))
    return counts


def begin(path: Path, *, commands: bool) -> None:
    """A store with an embedding and a column; `commands`: and an index beside it, for `kinmer search`."""
    counts = counts_of(ROWS)
    defaults: Any = create_rows.__kwdefaults__
    kept = defaults["chunk_rows"]
    defaults["chunk_rows"] = COLUMN_ROWS
    try:
        with ProfileWriter.create(path, kmer_layout(6), signature={}) as writer:
            for rows in np.array_split(np.arange(ROWS), 2):
                ids, files = [f"contig {row}|ü" for row in rows], [f"{row % 3}.fna" for row in rows]
                writer.append(ids, counts[rows], lengths=1000 + rows, sources=files)
            writer.finish({"command": "test"})
    finally:
        defaults["chunk_rows"] = kept
    if commands:
        assert _command("embed", path)[0] == 0
        assert _command("index", path, "-o", path.with_name("index.db"), "--no-calibrate")[0] == 0
    else:
        store = ProfileStore.open(path)
        with store.obsm_writer("X_kinmer", 3, provenance={"encoder": "none", "dim": 3}) as matrix:
            matrix.append(np.random.default_rng(1).normal(size=(ROWS, 3)).astype(np.float32))
            matrix.finish()
    ProfileStore.open(path).write_obs("kind", np.array([f"k{row % 5}" for row in range(ROWS)], dtype=object))


def _command(*argv: object) -> tuple[int, str, str]:
    from kinmer.cli import run

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run([str(one) for one in argv])
    return code, out.getvalue(), err.getvalue()


def readers(path: Path, *, commands: bool) -> dict[str, Callable[[], Any]]:
    """Ways to an answer about the store at `path`, each of which opens it."""

    def parts(name: str) -> Any:
        store = open_profiles(path)
        assert isinstance(store, ProfileStore)
        if name == "counts":
            return [store.read(0, ROWS), store.take(np.array([600, 3, 511])), store.values, str(store.layout)]
        if name == "ids":
            return [store.ids.tolist(), store.fingerprint]
        if name == "obs":
            return [store.obs.astype(str).to_csv()]
        if name == "embedding":
            return [store.obsm_keys(), store.read_obsm("X_kinmer"), store.embedding("X_kinmer")]
        told = info(store).to_dict()
        del told["bytes_on_disk"]
        return [json.dumps(told, sort_keys=True)]

    ways: dict[str, Callable[[], Any]] = {
        name: partial(parts, name) for name in ("counts", "ids", "obs", "embedding", "info")
    }
    if commands:
        out = path.with_name("vectors.npy")

        def embedded() -> Any:
            said = _command("embed", path, "-o", out, "--force")
            vectors = np.load(out) if said[0] == 0 else None
            names = out.with_suffix(".txt").read_text() if said[0] == 0 else None
            out.unlink(missing_ok=True)
            return [said, vectors, names]

        ways["kinmer info"] = lambda: [_lines(_command("info", path))]
        ways["kinmer embed"] = lambda: embedded()
        ways["kinmer search"] = lambda: [
            _command("search", path, "--db", path.with_name("index.db"), "-k", "2")
        ]
    return ways


def _lines(said: tuple[int, str, str]) -> Any:
    return said[0], [line for line in said[1].splitlines() if not line.startswith("on disk")], said[2]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _flip(data: bytearray, random: Random) -> None:
    data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))


def _cut(data: bytearray, random: Random) -> None:
    del data[int(random.integers(len(data))) :]


def _swap(data: bytearray, random: Random) -> None:
    """Two stretches of equal length change places."""
    size = int(random.integers(1, max(2, len(data) // 4)))
    first = int(random.integers(max(1, len(data) - 2 * size)))
    second = int(random.integers(first + size, max(first + size + 1, len(data) - size + 1)))
    data[first : first + size], data[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )


def _extend(data: bytearray, random: Random) -> None:
    more = random.integers(0, 256, int(random.integers(1, 5000)), dtype=np.uint8).tobytes()
    data.extend(more if random.integers(2) else bytes(data))


def _write(data: bytearray, random: Random) -> None:
    """Some bytes are written over."""
    start = int(random.integers(len(data)))
    for at in range(start, min(len(data), start + int(random.integers(1, 64)))):
        data[at] = int(random.integers(256))


BYTES = {"flip": _flip, "cut": _cut, "swap": _swap, "extend": _extend, "write": _write}
DAMAGES = (*BYTES, "exchange", "gone")


def damage(folder: Path, number: int) -> str:
    """Damage number so and so: what was done to which file."""
    random = np.random.default_rng([7, number])
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = files[number % len(files)]
    # The root file has most of what can be got wrong, and is one of sixty.
    if random.random() < 0.15:
        file = folder / "zarr.json"
    kind = DAMAGES[(number // len(files) + number) % len(DAMAGES)]
    name = file.relative_to(folder).as_posix()
    if kind == "gone":
        file.unlink()
    elif kind == "exchange":
        alike = [one for one in files if one.name == file.name and one != file] or files
        array = file.parent.parent if file.parent.parent.name == "c" else file.parent
        beside = [one for one in alike if one.is_relative_to(array)]
        other = beside[int(random.integers(len(beside)))] if beside and random.random() < 0.7 else None
        other = other or alike[int(random.integers(len(alike)))]
        mine, theirs = file.read_bytes(), other.read_bytes()
        file.write_bytes(theirs)
        other.write_bytes(mine)
        name += f" with {other.relative_to(folder).as_posix()}"
    else:
        data = bytearray(file.read_bytes())
        if data:
            BYTES[kind](data, random)
        file.write_bytes(data)
    return f"{number}: {kind} {name}"


def _outcome(way: Callable[[], Any], truth: Any) -> str:
    try:
        answer = way()
    except InputError as error:
        said = str(error)
        return f"too large: {said}" if "MemoryError" in said else "refused"
    except Exception:
        return f"crash: {traceback.format_exc(limit=-3)}"
    if isinstance(answer[0], tuple) and answer[0][0] != 0:  # A command that failed.
        code, _, said = answer[0]
        lines = said.strip().splitlines()
        if code not in (1, 2) or len(lines) != 1 or "bug" in said or not lines[0].startswith("error: "):
            return f"crash: exit {code}, {said}"
        return f"too large: {said}" if "MemoryError" in said else "refused"
    return "right" if _same(answer, truth) else f"wrong: {str(answer)[:300]}"


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def try_all(base: Path, copy: Path, numbers: range, commands: bool, pipe: Connection) -> None:
    """Say of every damage what came of it, by the ways to read: {way: outcome}, seconds, bytes at most."""
    ways = readers(base, commands=commands)
    truth = {name: way() for name, way in ways.items()}
    assert all(truth[name][0][0] == 0 for name in ways if name.startswith("kinmer")), truth
    assert all(_same(way(), truth[name]) for name, way in ways.items())
    ways = readers(copy, commands=commands)
    shutil.copytree(base, copy, dirs_exist_ok=True)
    for name, way in ways.items():
        truth[name] = way() if name == "kinmer info" else truth[name]
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.RLIM_INFINITY))
    for number in numbers:
        shutil.rmtree(copy)
        shutil.copytree(base, copy)
        what = damage(copy, number)
        pipe.send(what)
        began = time.monotonic()
        came = {name: _outcome(way, truth[name]) for name, way in ways.items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        pipe.send((came, time.monotonic() - began, peak))
