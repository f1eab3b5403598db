"""What commands will take: looks into files against all that is in them, prices against closed forms."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kinmer
from kinmer.box.reference import boxed_rows
from kinmer.cli import run
from kinmer.costs import CommandCost, Contents, Machine
from kinmer.costs.forecast import cost_of, priced, size_of, steps_of, time_of
from kinmer.costs.looks import contents_of
from kinmer.costs.machine import core_speed, this_machine
from kinmer.costs.prices import DIM, PRICES
from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import base_count, look_into
from kinmer.index.pieces import PIECE_LENGTHS, Pieces
from kinmer.resources import group_memory

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda text: lzma.compress(text, preset=0),
}
ROOMY = Machine(threads=4, speed=2.0, memory=1 << 50, disk=1 << 50)


def fasta(path: Path, lengths: list[int], pack: str = "plain", width: int = 60) -> Path:
    """A file of random sequences of these lengths, with an N in each."""
    rng = random.Random(0)
    text = ""
    for number, length in enumerate(lengths):
        letters = "".join(rng.choices("ACGTacgt", k=length)) + "N"
        text += f">s{number} about it\n" + "".join(
            letters[at : at + width] + "\n" for at in range(0, len(letters), width)
        )
    path.write_bytes(PACKED[pack](text.encode()))
    return path


def contents(lengths: list[float], weight: float = 1.0) -> Contents:
    return Contents("it", "fasta", np.array(lengths), np.full(len(lengths), weight), 3, 1000)


@pytest.mark.parametrize("pack", sorted(PACKED))
def test_a_small_file_is_known_exactly(tmp_path: Path, pack: str) -> None:
    lengths = [5, 3000, 0, 70, 1234]
    look = look_into(fasta(tmp_path / "a", lengths, pack), 1 << 20)
    assert look.lengths.tolist() == lengths
    assert (look.sequences, look.bases, look.looked) == (5, sum(lengths), 1)
    assert look.compressed == (pack != "plain")
    assert look.stored == (tmp_path / "a").stat().st_size


@pytest.mark.parametrize("start", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_what_may_stand_before_the_first_header(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a").write_bytes(start + b">one\nACGT\r\nAC\r\n>two\nTT")
    assert look_into(tmp_path / "a", 100).lengths.tolist() == [6, 2]


@pytest.mark.parametrize("pack", sorted(PACKED))
@pytest.mark.parametrize("ordered", [False, True])
def test_of_a_large_file_a_part_tells_the_whole(tmp_path: Path, pack: str, ordered: bool) -> None:
    rng = np.random.default_rng(1)
    lengths = np.exp(rng.normal(7, 0.8, 12_000)).astype(int)
    lengths = np.sort(lengths)[::-1] if ordered and pack == "plain" else lengths
    look = look_into(fasta(tmp_path / "a", lengths.tolist(), pack), 3 << 20)
    assert 0 < look.looked < 1
    # bzip2 gives blocks of 900 kB at once: of so little text its ratio is known less well.
    near = 0.25 if pack == "bzip2" else 0.1
    assert look.sequences == pytest.approx(len(lengths), rel=near)
    assert look.bases == pytest.approx(lengths.sum(), rel=near)
    assert float(look.lengths.mean()) * look.sequences == pytest.approx(look.bases)


def test_a_single_long_sequence_is_one(tmp_path: Path) -> None:
    look = look_into(fasta(tmp_path / "a", [3_000_000]), 1 << 16)
    assert look.sequences == 1
    assert look.lengths.tolist() == [look.bases]
    assert look.bases == pytest.approx(3_000_000, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 300_000), min_size=1, max_size=30))
def test_vectors_are_those_of_the_pieces(lengths: list[int]) -> None:
    pieces = Pieces(PIECE_LENGTHS)
    many = sum(1 + sum(len(s) for _, s in pieces.starts(len(pieces.tiles(one)) - 1)) for one in lengths)
    assert contents([float(one) for one in lengths], 3).vectors(PIECE_LENGTHS) == 3 * many
    assert contents([float(one) for one in lengths], 3).vectors(()) == 3 * len(lengths)


def test_vectors_of_many_long_sequences_are_counted_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(5000, 200_000, 3000).astype(float).tolist()
    exact = contents(lengths).vectors(PIECE_LENGTHS)
    monkeypatch.setattr("kinmer.costs.looks.CUT", 300)
    assert contents(lengths).vectors(PIECE_LENGTHS) == pytest.approx(exact, rel=0.01)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(sorted(PRICES)),
    units=st.floats(0, 1e12),
    threads=st.integers(1, 128),
    speed=st.floats(0.1, 10),
)
def test_a_step_costs_what_its_price_says(name: str, units: float, threads: int, speed: float) -> None:
    price, step = PRICES[name], priced(name, units, replace(ROOMY, threads=threads, speed=speed))
    assert step.cpu == pytest.approx(price.cpu * units**price.exponent / speed)
    assert step.wall == pytest.approx(step.cpu * ((1 - price.parallel) + price.parallel / threads))
    assert (step.memory, step.disk) == (price.memory * units, price.disk * units)


def test_vectors_cost_by_their_numbers() -> None:
    whole, half = (priced("graph", 1e6, ROOMY, dim) for dim in (DIM, DIM // 2))
    assert half.cpu == pytest.approx(whole.cpu / 2)
    assert half.memory == pytest.approx(whole.memory / 2)
    assert priced("queries", 1e3, ROOMY, DIM // 2) == priced("queries", 1e3, ROOMY)


def test_a_command_is_the_sum_of_its_steps() -> None:
    held = contents([2000.0, 4000.0], 5)
    cost = cost_of("count", held, ROOMY, coding=False)
    assert [(step.name, step.units) for step in cost.steps] == [
        ("start", 1),
        ("files", 2),
        ("unpacking", 0),
        ("k-mers", 30_000),
        ("profiles", 10),
        ("rows of a block", 10),
        ("profile bytes", pytest.approx(5 * (2000**0.2 + 4000**0.2))),
    ]
    assert cost.cpu == pytest.approx(sum(step.cpu for step in cost.steps))
    assert cost.disk == pytest.approx(sum(step.disk for step in cost.steps))
    assert cost.memory == cost.steps[0].memory + max(step.memory for step in cost.steps[1:])
    assert cost.fits


@pytest.mark.parametrize(
    ("command", "more", "steps"),
    [
        ("count", {"coding": True}, {"reading frames", "profile bytes with frames"}),
        ("embed", {}, {"embedding"}),
        ("index", {}, {"reading frames", "embedding", "entries", "graph"}),
        ("reference", {"compact": False}, {"letters kept", "fragments"}),
        ("map", {}, {"neighbors of all pairs", "points moved", "picture and page"}),
        ("cluster", {}, {"neighbors of all pairs", "communities"}),
        ("search", {"database": 500.0}, {"queries", "database"}),
    ],
)
def test_the_steps_of_each_command(command: kinmer.costs.Command, more: dict, steps: set[str]) -> None:  # type: ignore[type-arg]
    name, units = steps_of(command, contents([5000.0] * 10), **more)
    assert name.startswith(command)
    assert steps <= dict(units).keys()
    if command == "map":
        many = dict(steps_of("map", contents([5000.0], 1e6))[1])
        assert many["neighbors"] == many["graph"] == 1e6
        assert "neighbors of all pairs" not in many


@pytest.mark.parametrize(
    ("command", "what"),
    [("count", "disk"), *itertools.product(("map", "cluster", "index"), ("memory", "disk"))],
)
def test_what_does_not_fit_is_said_with_what_does(command: kinmer.costs.Command, what: str) -> None:
    held = contents(list(np.linspace(1000, 9000, 1000)), 1000)
    need = getattr(cost_of(command, held, ROOMY), what)
    least = getattr(cost_of(command, held.scaled(0), ROOMY), what)
    machine = replace(ROOMY, **{what: round(least + (need - least) / 2)})
    cost = cost_of(command, held, machine)
    (line,) = cost.warnings
    assert not cost.fits
    assert size_of(need) in line
    fitting = float(line.split("about ")[1].split(" ")[0].replace(",", ""))
    assert cost_of(command, held.scaled(fitting / held.sequences), machine).fits
    assert not cost_of(command, held.scaled(1.01 * fitting / held.sequences), machine).fits
    length = int(line.split("--min-length ")[1].split(" ")[0].replace(",", ""))
    assert held.at_least(length).sequences <= fitting < held.at_least(length - 200).sequences


def test_a_reference_that_does_not_fit_is_offered_smaller() -> None:
    held = contents([4e6] * 50, 100)
    full, small = (cost_of("reference", held, ROOMY, compact=way) for way in (False, True))
    assert small.disk < full.disk / 5
    machine = replace(ROOMY, disk=round(2 * small.disk))
    (line,) = cost_of("reference", held, machine, compact=False).warnings
    assert "--compact takes" in line
    half = replace(machine, disk=round(small.disk / 2))
    (line,) = cost_of("reference", held, half, compact=True).warnings
    assert "about 1 of the 3 genomes fit" in line
    for what, advice in (("memory", "machine with more"), ("disk", "larger disk")):
        (line,) = cost_of("reference", held, replace(ROOMY, **{what: 100}), compact=True).warnings
        assert f"take a {advice}" in line


def test_lengths_that_are_left_out() -> None:
    held = contents([500.0, 1000.0, 3000.0], 2)
    assert held.at_least(1000).sequences == 4
    assert held.bases == 9000
    with pytest.raises(InputError, match=r"no sequence of 5,000 bases"):
        held.at_least(5000)


@pytest.mark.parametrize("version", [1, 2])
def test_memory_of_control_groups(tmp_path: Path, version: int) -> None:
    root, own = tmp_path / "fs", tmp_path / "own"
    names = (
        ("memory.max", "memory.current")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    top = root if version == 2 else root / "memory"
    own.write_text("0::/a/b\n" if version == 2 else "9:name=systemd:/x\n4:memory:/a/b\n0::/\n")
    for folder, limit, used in ((top / "a", 1000, 400), (top / "a" / "b", 5000, 300)):
        folder.mkdir(parents=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text("cache 9\ninactive_file 100\n")
    assert list(group_memory(root, own)) == [4800, 700]
    (top / "a" / names[0]).write_text("max\n")
    assert list(group_memory(root, own)) == [4800]
    assert list(group_memory(root, tmp_path / "none")) == []


def test_this_machine(tmp_path: Path) -> None:
    machine = this_machine(tmp_path / "not" / "yet", threads=3)
    assert machine.threads == 3
    assert 0 < machine.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.disk > 0
    assert core_speed() > 0


def test_figures_for_people() -> None:
    assert [time_of(one) for one in (1, 89, 90, 5399, 5400, 1e6)] == [
        "1 s", "89 s", "1.5 min", "90.0 min", "1.5 h", "11.6 days",
    ]  # fmt: skip
    assert [size_of(one) for one in (2e5, 5e8, 2.5e9)] == ["0 MB", "500 MB", "2.5 GB"]


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genomes")
    for number in range(3):
        fasta(folder / f"g{number}.fna.gz", [29_000, 900, 2000], "gzip")
    return folder


def test_what_inputs_hold(genomes: Path, tmp_path: Path) -> None:
    held = contents_of([genomes])
    assert (held.kind, held.genomes, held.sequences, held.bases) == ("fasta", 3, 9, 3 * 31_900)
    assert (held.looked, held.packed) == (1, 1)
    assert held.at_least(1000).sequences == 6
    files = sorted(genomes.iterdir())
    assert contents_of(files).bases == held.bases
    kinmer.count(files[0], tmp_path / "a.zarr", coding=True)
    store = contents_of([tmp_path / "a.zarr"])
    assert (store.kind, store.sequences) == ("profiles", 2)
    assert store.bases == pytest.approx(31_000, abs=10)
    with kinmer.build_index(files[0], tmp_path / "a.db") as index:
        rows = len(index.rows)
    known = contents_of([tmp_path / "a.db"])
    assert (known.kind, known.sequences, known.rows, known.genomes) == ("index", 2, rows, 2)
    # The mean of the one that is cut is a vector too.
    units = dict(steps_of("index", contents_of([files[0]]).at_least(1000))[1])
    assert units["entries"] == units["graph"] == rows


def test_genomes_yet_to_come_are_taken_to_be_as_the_others(genomes: Path, tmp_path: Path) -> None:
    lines = [f"{path}\t" for path in sorted(genomes.iterdir())] + ["\thttps://example.org/g4.fna.gz"]
    (tmp_path / "list.tsv").write_text("\n".join(["path\turl", *lines]))
    held = contents_of([tmp_path / "list.tsv"])
    assert (held.genomes, held.sequences) == (4, 12)
    assert held.looked < 1


def test_of_many_files_some_are_looked_into(genomes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinmer.costs.looks.FILES", 2)
    held = contents_of([genomes])
    assert held.looked < 1
    assert held.sequences == pytest.approx(9, rel=0.01)


def test_an_estimate_of_each_input(genomes: Path) -> None:
    made = kinmer.estimate(genomes, threads=1)
    assert [one.command for one in made.commands] == ["reference", "reference --compact"]
    made = kinmer.estimate(sorted(genomes.iterdir()), threads=1)
    assert [one.command for one in made.commands] == [
        "search", "count --coding", "embed", "map", "cluster", "index",
    ]  # fmt: skip
    assert all(one.wall == pytest.approx(one.cpu) for one in made.commands)
    assert made.fits
    dumped = json.loads(json.dumps(made.to_dict()))
    assert dumped["input"]["sequences"] == 9
    assert dumped["commands"][0]["cpu_seconds"] == made.commands[0].cpu
    assert made.text().splitlines()[-1].startswith("index ")
    short = replace(made, commands=(CommandCost("map", (), 0, ("map does not fit",)),))
    assert not short.fits
    assert short.text().endswith("warning: map does not fit")


def test_the_boxed_index_has_so_many_vectors() -> None:
    facts = kinmer.describe_index("kin-ref-1")
    assert boxed_rows() == facts.wholes + facts.pieces + facts.genome_vectors + facts.deleted


BAD = {
    "missing.fna": None,
    "empty.fna": b"",
    "blank.fna": b"\n \n",
    "text.fna": b"this is no FASTA\n",
    "reads.fna": b"@r1\nACGT\n+\nIIII\n",
    "protein.fna": b">p1\n" + b"MKLVRRWQEDPFFIHS" * 100 + b"\n",
    "cut.fna.gz": gzip.compress(b">a\n" + os.urandom(3000).hex().encode())[:500],
    "zip.fna": b"PK\x03\x04 and more",
    "short.fna": b">a\nACGT\n",
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_refused_in_a_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (data := BAD[name]) is not None:
        (tmp_path / name).write_bytes(data)
    assert run(["estimate", str(tmp_path / name), "--for", "count"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["a.fna", "--for", "paint"], "there is no estimate of 'paint'"),
        (["a.zarr", "--for", "count"], "count does not take such an input"),
        (["a.fna", "a.zarr"], "several inputs must all be FASTA"),
        (["-"], "a pipe cannot be looked into"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_is_refused_in_a_line(
    argv: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fasta(Path("a.fna"), [2000])
    kinmer.count("a.fna", "a.zarr")
    assert run(["estimate", *argv]) == 2
    assert why in capsys.readouterr().err


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(fasta(tmp_path / "a.fna", [2000, 3000]))
    assert run(["estimate", path, "--for", "count", "--for", "map", "--no-coding", "-t", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 2 sequences, 0.0 Mbp"
    assert lines[1].startswith("this machine: 2 threads")
    assert [line.split()[0] for line in lines[4:]] == ["count", "map"]
    assert run(["estimate", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"]["bases"] == 5000
    with pytest.raises(UsageError):
        kinmer.estimate([])
    with pytest.raises(SequenceError):
        kinmer.estimate(tmp_path / "none.fna")
    assert base_count(b"ACGTN") == 4
