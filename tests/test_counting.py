"""Counting files: the store equals brute force, whatever the blocks and threads, and survives kills."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinmer.counting import CountReport, batches, count, count_batches, count_files
from kinmer.errors import KinmerError, MismatchError, SequenceError, UsageError
from kinmer.fasta import read_records
from kinmer.layout import kmer_layout
from kinmer.profiles import ProfileStore, ProfileWriter, store_writer
from tests.brute_force import brute_force

LAYOUT = kmer_layout(6)
SMALL = kmer_layout(2)


def fasta(records: Sequence[tuple[str, str]], width: int = 60) -> bytes:
    text = ""
    for name, sequence in records:
        text += f">{name}\n" + "".join(sequence[i : i + width] + "\n" for i in range(0, len(sequence), width))
    return text.encode()


def random_records(number: int, seed: int, *, low: int = 100, high: int = 3000) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    letters = "ACGT" * 30 + "N"
    return [
        (f"s{seed}_{i}|x", "".join(rng.choices(letters, k=rng.randint(low, high)))) for i in range(number)
    ]


def check(store: ProfileStore, records: Sequence[tuple[str, str]], source: str | None = None) -> None:
    """The store holds exactly these records."""
    assert store.ids.tolist() == [name for name, _ in records]
    assert store.obs["length"].tolist() == [len(sequence) for _, sequence in records]
    for row, (_, sequence) in zip(store.read(0, len(store)), records, strict=True):
        np.testing.assert_array_equal(row, brute_force(sequence, store.layout))
    if source is not None:
        assert set(store.obs["source"]) == {source}


def content(path: Path) -> tuple[Any, ...]:
    store = ProfileStore.open(path)
    return store.fingerprint, store.read(0, len(store)).tobytes(), store.obs.to_csv()


@pytest.fixture
def _every_batch_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ProfileWriter.create.__func__.__kwdefaults__, "commit_seconds", 0.0)  # type: ignore[attr-defined]


def test_a_store_equals_brute_force(tmp_path: Path) -> None:
    first, second = random_records(12, 1), random_records(9, 2)
    (tmp_path / "first.fna").write_bytes(fasta(first))
    (tmp_path / "second.gz").write_bytes(gzip.compress(fasta(second, 1000)))
    report = count_files([tmp_path / "first.fna", tmp_path / "second.gz"], tmp_path / "o.zarr", min_length=0)
    store = ProfileStore.open(tmp_path / "o.zarr")
    check(store, first + second)
    assert store.obs["source"].tolist() == ["first.fna"] * 12 + ["second.gz"] * 9
    bases = [sum(sequence.count(letter) for letter in "ACGT") for _, sequence in first + second]
    assert store.obs["bases"].tolist() == bases
    gc = [
        (one.count("G") + one.count("C")) / number
        for (_, one), number in zip(first + second, bases, strict=True)
    ]
    np.testing.assert_allclose(store.obs["gc"], gc, rtol=1e-12)
    assert (report.sequences, report.letters) == (21, sum(len(one) for _, one in first + second))
    assert report.seconds > 0
    assert "21 sequences" in report.summary()


@pytest.mark.parametrize("max_k", [1, 4, 7])
def test_other_layouts(tmp_path: Path, max_k: int) -> None:
    records = random_records(3, 5)
    (tmp_path / "a.fna").write_bytes(fasta(records))
    store = count(tmp_path / "a.fna", tmp_path / "o.zarr", max_k=max_k, min_length=0)
    assert store.layout == kmer_layout(max_k)
    check(store, records, "a.fna")


def test_anndata_in_memory_is_the_store(tmp_path: Path) -> None:
    records = random_records(7, 3)
    (tmp_path / "a.fna").write_bytes(fasta(records))
    store = count(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0)
    data = count(tmp_path / "a.fna", min_length=0)
    np.testing.assert_array_equal(data.X, store.read(0, 7))
    assert data.obs_names.tolist() == store.ids.tolist()
    assert data.var_names.tolist() == list(LAYOUT.features)
    assert data.obs["length"].tolist() == store.obs["length"].tolist()
    with pytest.raises(UsageError, match="output"):
        count(tmp_path / "a.fna", None, force=True)  # type: ignore[call-overload]


nucleotides = st.text(st.sampled_from("ACGTACGTACGTnRu-"), max_size=150)


@given(
    sequences=st.lists(nucleotides, min_size=1, max_size=8),
    width=st.sampled_from([1, 5, 60, 1000]),
    end=st.sampled_from(["\n", "\r\n"]),
    block_bytes=st.one_of(st.integers(3, 60), st.just(1 << 16)),
    threads=st.integers(1, 3),
    rows=st.integers(1, 4),
    min_length=st.sampled_from([0, 0, 1, 20, 60]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_threads_and_lines_change_nothing(
    tmp_path: Path,
    sequences: list[str],
    width: int,
    end: str,
    block_bytes: int,
    threads: int,
    rows: int,
    min_length: int,
) -> None:
    records = [(f"{i}", sequence) for i, sequence in enumerate(sequences)]
    path = tmp_path / "a.fna"
    path.write_bytes(fasta(records, width).replace(b"\n", end.encode()))
    found: list[tuple[str, int, int, tuple[int, ...]]] = []
    too_short, last = 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "BATCH_BYTES", rows * 4 * SMALL.width)
        for batch in count_batches(
            [path], SMALL, min_length=min_length, threads=threads, block_bytes=block_bytes
        ):
            assert len(batch.ids) <= rows
            too_short, last = too_short + batch.too_short, batch.position.records
            for row, one in enumerate(batch.ids):
                place = (int(batch.records[row]), int(batch.lengths[row]))
                found.append((one, *place, tuple(batch.counts[row].tolist())))
    expected = [
        (one, number + 1, len(sequence), tuple(brute_force(sequence, SMALL).tolist()))
        for number, (one, sequence) in enumerate(records)
        if len(sequence) >= min_length
    ]
    assert found == expected
    assert too_short == len(records) - len(expected)
    assert last == len(records)


def test_short_sequences_and_those_without_a_base_are_left_out(tmp_path: Path) -> None:
    kept = ("kept", "ACGT" * 25)
    records = [("short", "ACGT" * 24 + "ACG"), kept, ("n", "N" * 200), ("empty", ""), ("gaps", "-" * 100)]
    (tmp_path / "a.fna").write_bytes(fasta(records, 10))
    report = count_files([tmp_path / "a.fna"], tmp_path / "o.zarr", min_length=100)
    check(ProfileStore.open(tmp_path / "o.zarr"), [kept])
    assert (report.sequences, report.too_short, report.without_bases) == (1, 2, 2)
    assert "left out: 2 too short, 2 without a base" in report.summary()


BAD = {
    "protein": (b">p\nMKVLAT\n", "record 1 ('p'): the letter 'L' at position 4 is not a nucleotide code"),
    "short protein behind DNA": (b">a\n" + b"ACGT" * 300 + b"\n>p\nMKFL\n", "record 2 ('p'): the letter 'F'"),
    "star": (b">a\n" + b"ACGT\n" * 300 + b"A*\n", "record 1 ('a'): the letter '*' at position 1,202"),
    "FASTQ": (b"@r\nACGT\n+\nIIII\n", "this is FASTQ"),
    "empty": (b"", "the file is empty"),
    "no FASTA": (b"hello\n", "not FASTA"),
    "truncated gzip": (gzip.compress(fasta(random_records(3, 1)))[:-200], "the file is truncated"),
    "nothing long enough": (b">a\nACGT\n>b\nNN\n", "no sequence is left to count"),
}


@pytest.mark.parametrize("kind", sorted(BAD))
@pytest.mark.parametrize("block_bytes", [1 << 25, 64])
def test_bad_input_leaves_nothing_behind(tmp_path: Path, kind: str, block_bytes: int) -> None:
    data, told = BAD[kind]
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(SequenceError) as caught:
        count_files([tmp_path / "bad"], tmp_path / "o.zarr", block_bytes=block_bytes)
    assert told in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.usefixtures("_every_batch_is_committed")
@pytest.mark.parametrize("kind", ["protein", "truncated gzip", "FASTQ"])
def test_bad_input_leaves_the_store_appended_to_as_it_was(tmp_path: Path, kind: str) -> None:
    old, new = random_records(5, 1), random_records(5, 2)
    (tmp_path / "old.fna").write_bytes(fasta(old))
    (tmp_path / "new.fna").write_bytes(fasta(new))
    (tmp_path / "bad.fna").write_bytes(BAD[kind][0])
    output = tmp_path / "o.zarr"
    count_files(tmp_path / "old.fna", output, min_length=0)
    before = content(output)
    with pytest.raises(SequenceError):
        count_files([tmp_path / "new.fna", tmp_path / "bad.fna"], output, min_length=0, append=True)
    assert content(output) == before
    count_files(tmp_path / "new.fna", output, min_length=0, append=True)
    check(ProfileStore.open(output), old + new)


def test_usage_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.fna").write_bytes(fasta(random_records(3, 1)))
    wrong: list[tuple[Any, dict[str, Any], type[KinmerError], str]] = [
        ([], {}, UsageError, "no sequence file"),
        (["-", "-"], {}, UsageError, "only once"),
        ([tmp_path / "none.fna"], {}, SequenceError, "no such file"),
        ([tmp_path], {}, SequenceError, "folder"),
        ([tmp_path / "a.fna"], {"threads": 0}, UsageError, "threads"),
        ([tmp_path / "a.fna"], {"min_length": -1}, UsageError, "least length"),
        ([tmp_path / "a.fna"], {"max_k": 9}, UsageError, "at most 8"),
    ]
    for files, options, kind, told in wrong:
        with pytest.raises(kind, match=told):
            count_files(files, tmp_path / "o.zarr", **options)
        assert [path.name for path in tmp_path.iterdir()] == ["a.fna"]


def test_an_output_that_exists_or_has_another_layout(tmp_path: Path) -> None:
    records = random_records(4, 1)
    (tmp_path / "a.fna").write_bytes(fasta(records))
    (tmp_path / "b.fna").write_bytes(fasta(random_records(2, 2)))
    count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0)
    with pytest.raises(UsageError, match="exists"):
        count_files(tmp_path / "b.fna", tmp_path / "o.zarr", min_length=0)
    with pytest.raises(MismatchError, match="max-k"):
        count_files(tmp_path / "b.fna", tmp_path / "o.zarr", min_length=0, max_k=4, append=True)
    check(ProfileStore.open(tmp_path / "o.zarr"), records)
    count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0, max_k=4, force=True)
    assert ProfileStore.open(tmp_path / "o.zarr").layout == kmer_layout(4)


def test_double_ids_are_told_with_both_places(tmp_path: Path) -> None:
    a, b = random_records(3, 1), random_records(3, 2)
    twice = a[1][0]
    (tmp_path / "a.fna").write_bytes(fasta(a))
    (tmp_path / "within.fna").write_bytes(fasta([*a, ("other", "ACGT" * 9), (twice, "ACGTA" * 9)]))
    (tmp_path / "across.fna").write_bytes(fasta([*b, (twice, "ACGT" * 9)]))
    cases = {
        ("within.fna",): ("within.fna, record 5", "first in", "within.fna, record 2"),
        ("a.fna", "across.fna"): ("across.fna, record 4", "first in", "a.fna, record 2"),
    }
    for files, told in cases.items():
        with pytest.raises(SequenceError) as caught:
            count_files([tmp_path / file for file in files], tmp_path / "o.zarr", min_length=0)
        message = str(caught.value)
        assert f"the id {twice!r} occurs twice" in message
        places = [message.index(f"{part}") for part in told]
        assert places == sorted(places)
    count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0)
    with pytest.raises(SequenceError, match=r"across\.fna, record 4.*the store that is appended to"):
        count_files(tmp_path / "across.fna", tmp_path / "o.zarr", min_length=0, append=True)
    check(ProfileStore.open(tmp_path / "o.zarr"), a)


def test_a_sequence_too_long_for_its_counts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.fna").write_bytes(fasta([("a", "ACGT" * 100)]))
    monkeypatch.setattr(batches, "MAX_LETTERS", 399)
    with pytest.raises(SequenceError, match=r"record 1 \('a'\): 400 letters"):
        count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0, block_bytes=100)


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = random_records(20, 1)
    (tmp_path / "a.fna").write_bytes(fasta(records))

    def full(files: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "sync_files", full)
        with pytest.raises(KinmerError, match="the disk is full") as caught:
            count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0, block_bytes=2000)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "o.zarr").exists()
    count_files(tmp_path / "a.fna", tmp_path / "o.zarr", min_length=0)
    check(ProfileStore.open(tmp_path / "o.zarr"), records)


@pytest.mark.usefixtures("_every_batch_is_committed")
def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = random_records(20, 1), random_records(20, 2)
    paths = [tmp_path / "first.fna", tmp_path / "second.fna"]
    for path, records in zip(paths, (first, second), strict=True):
        path.write_bytes(fasta([*records, (f"short{path.name}", "ACGT")]))
    append, calls = ProfileWriter.append, [0]

    def interrupted(self: ProfileWriter, ids: Sequence[str], *rest: Any, **more: Any) -> None:
        calls[0] += bool(ids)
        if calls[0] in (4, 9, 10, 25):
            raise KeyboardInterrupt
        append(self, ids, *rest, **more)

    monkeypatch.setattr(ProfileWriter, "append", interrupted)
    reports: list[CountReport] = []
    for _ in range(10):
        try:
            reports.append(count_files(paths, tmp_path / "o.zarr", min_length=50, block_bytes=3000))
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "o.zarr").exists()
    (report,) = reports
    check(ProfileStore.open(tmp_path / "o.zarr"), first + second)
    assert (report.sequences, report.too_short) == (40, 2)
    assert report.letters == sum(len(one) for _, one in first + second)
    assert 0 < report.resumed < 40
    assert "went on" in report.summary()


@pytest.mark.usefixtures("_every_batch_is_committed")
def test_an_unfinished_run_with_other_settings_is_refused_or_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = random_records(10, 1)
    path, output = tmp_path / "a.fna", tmp_path / "o.zarr"
    path.write_bytes(fasta(records))

    def interrupted(self: ProfileWriter, provenance: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProfileWriter, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            count_files(path, output, min_length=0)
    with pytest.raises(UsageError, match="other input or settings"):
        count_files(path, output, min_length=1)
    path.write_bytes(fasta(records[:5]))
    with pytest.raises(UsageError, match="other input or settings"):
        count_files(path, output, min_length=0)
    report = count_files(path, output, min_length=0, force=True)
    assert report.resumed == 0
    check(ProfileStore.open(output), records[:5])


CHILD = textwrap.dedent(
    """
    import sys
    from kinmer.counting import count_files
    from kinmer.errors import KinmerError
    from kinmer.profiles import ProfileWriter
    ProfileWriter.create.__func__.__kwdefaults__["commit_seconds"] = 0.0
    output, append, *files = sys.argv[1:]
    print("ready", flush=True)
    try:
        report = count_files(files, output, min_length=0, block_bytes=2500, append=append == "append")
    except KinmerError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print("done", report.resumed, flush=True)
    """
)


def start_child(output: Path, files: Sequence[Path | str], *, append: bool = False, **more: Any) -> Any:
    command = [sys.executable, "-c", CHILD, str(output), "append" if append else "new", *map(str, files)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)


@pytest.mark.slow
@pytest.mark.parametrize("append", [False, True])
def test_killed_runs_lose_and_double_nothing(tmp_path: Path, append: bool) -> None:
    """kill -9 at random moments, the same command again: the store of a run that was not killed."""
    old, new = random_records(5, 7), random_records(90, 8)
    (tmp_path / "old.fna").write_bytes(fasta(old))
    (tmp_path / "new.fna").write_bytes(fasta(new[:50]))
    (tmp_path / "new.gz").write_bytes(gzip.compress(fasta(new[50:])))
    files = [tmp_path / "new.fna", tmp_path / "new.gz"]
    output, whole = tmp_path / "o.zarr", tmp_path / "whole.zarr"
    for path in (output, whole) if append else ():
        count_files(tmp_path / "old.fna", path, min_length=0)
    before = content(output) if append else None
    count_files(files, whole, min_length=0, append=append)
    rng, resumed = random.Random(append), []
    for attempt in range(30):
        with start_child(output, files, append=append) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            if attempt < 4:
                time.sleep(rng.uniform(0.05, 0.8))
                child.send_signal(signal.SIGKILL)
            rest = child.stdout.read()
        if rest.startswith("done"):
            resumed.append(int(rest.split()[1]))
            break
        if append:
            assert content(output) == before
        else:
            assert not output.exists()
    assert content(output) == content(whole)
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []
    check(ProfileStore.open(output), (old if append else []) + new)


def feed(child: Any, data: bytes, then: float = 0.0) -> None:
    child.stdin.buffer.write(data)
    child.stdin.flush()
    time.sleep(then)


def test_stdin_goes_on_with_the_same_sequences_only(tmp_path: Path) -> None:
    records, output = random_records(100, 4), tmp_path / "o.zarr"
    data = fasta(records)
    with start_child(output, ["-"], stdin=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        feed(child, data[: len(data) // 2], then=0.5)
        journal = tmp_path / "o.zarr.part" / ".kinmer-journal.json"
        for _ in range(200):
            if journal.exists() and '"sequences"' in journal.read_text():
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.stdin.close()
    for other in (data.replace(b">s4_0|x", b">else"), fasta(records[:1])):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(output), "new", "-"],
            input=other,
            capture_output=True,
            check=False,
        )
        assert b"MismatchError: stdin: the sequences are not those" in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(output), "new", "-"], input=data, capture_output=True, check=True
    )
    assert int(done.stdout.split()[-1]) > 0
    check(ProfileStore.open(output), records, "stdin")


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    records, pipe = random_records(5, 6), tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(fasta(records)))
    thread.start()
    store = count([pipe], tmp_path / "o.zarr", min_length=0)
    thread.join()
    check(store, records, "pipe")


@pytest.fixture
def genomes() -> list[Path]:
    folder = os.environ.get("KINMER_GENOMES")
    if not folder:
        pytest.skip("KINMER_GENOMES names no folder of genomes")
    return sorted(Path(folder).glob("*.fna.gz"))


@pytest.mark.genomes
@pytest.mark.slow
def test_real_genomes_equal_brute_force(tmp_path: Path, genomes: list[Path]) -> None:
    """The whole collection; 200 of its sequences counted once more in plain Python."""
    report = count_files(genomes, tmp_path / "o.zarr", min_length=0)
    store = ProfileStore.open(tmp_path / "o.zarr")
    assert len(store) == report.sequences
    rows = {one: row for row, one in enumerate(store.ids)}
    sampled = set(random.Random(1).sample(sorted(rows), min(200, len(rows))))
    checked = 0
    for file in genomes:
        for one, sequence in read_records(file):
            if one in sampled:
                row = store.take(np.array([rows[one]]))[0]
                np.testing.assert_array_equal(row, brute_force(sequence.decode(), LAYOUT))
                assert store.obs["length"].iloc[rows[one]] == len(sequence)
                checked += 1
    assert checked == len(sampled)
