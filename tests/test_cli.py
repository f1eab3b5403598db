"""The command line: the whole way, one line for every error, nothing half written."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import zstandard

from kinmer.cli import run

Kinmer = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kinmer(capsys: pytest.CaptureFixture[str]) -> Kinmer:
    """Run a command; gives exit code, stdout and stderr."""

    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run([str(one) for one in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def contigs(number: int, length: int, seed: int = 0) -> dict[str, str]:
    rng = np.random.default_rng(seed)
    return {f"c{i}": "".join(rng.choice(list("ACGT"), length)) for i in range(number)}


def write(path: str, records: dict[str, str]) -> Path:
    Path(path).write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return Path(path)


SMALL = ("--latent", "8", "--set", "hidden=32x16", "--epochs", "3", "--batch", "16", "--threads", "1")


def test_from_fasta_to_kin(kinmer: Kinmer) -> None:
    records = contigs(40, 3000)
    write("a.fna", records)
    Path("labels.tsv").write_text("id\tspecies\n" + "".join(f"c{i}\tSpecies {i % 4}\n" for i in range(40)))
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    assert ad.read_zarr("a.zarr").shape == (40, 2772)
    code, out, _ = kinmer("info", "a.zarr", "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 40
    assert kinmer("train", "a.zarr", "-o", "enc", *SMALL)[0] == 0
    assert kinmer("embed", "a.zarr", "-e", "enc")[0] == 0
    assert ad.read_zarr("a.zarr").obsm["X_kinmer"].shape == (40, 8)
    assert kinmer("index", "a.zarr", "-o", "a.db", "--metadata", "labels.tsv")[0] == 0

    # A reverse complement is the same molecule: its own entry is the nearest, at distance 0.
    mirrored = records["c7"][::-1].translate(str.maketrans("ACGT", "TGCA"))
    write("q.fna", {"q": mirrored})
    code, out, _ = kinmer("search", "q.fna", "--db", "a.db", "-k", "3")
    assert code == 0
    header, first, *rest = (line.split("\t") for line in out.splitlines())
    assert header[:9] == ["query_id", "rank", "hit_id", "distance", "length", "gc", "genome", "start", "stop"]
    assert header[9:] == ["species", "source"]
    assert first[:3] == ["q", "1", "c7"]
    assert float(first[3]) < 1e-5
    assert first[9] == "Species 3"
    assert len(rest) == 2

    code, out, _ = kinmer("search", "--id", "c7", "--db", "a.db", "-k", "3", "--format", "json")
    hits = [hit["hit_id"] for hit in json.loads(out)[0]["hits"]]
    assert code == 0
    assert hits == [line[2] for line in kinmer_rows(kinmer, "q.fna", k="4")[1:]]

    assert kinmer("index", "--rebuild", "a.db", "--engine", "exact", "--metric", "l2")[0] == 0
    assert kinmer_rows(kinmer, "q.fna", k="1")[0][2] == "c7"
    code, out, _ = kinmer("verify", "a.zarr", "-e", "enc", "-k", "5", "--bootstrap", "20", "-o", "local")
    assert code == 0
    assert json.loads(Path("local.json").read_text())["sequences"] == 40


def kinmer_rows(kinmer: Kinmer, queries: str, *, k: str) -> list[list[str]]:
    code, out, _ = kinmer("search", queries, "--db", "a.db", "-k", k)
    assert code == 0
    return [line.split("\t") for line in out.splitlines()[1:]]


def test_the_summary_counts_the_reference_network(kinmer: Kinmer) -> None:
    code, out, _ = kinmer("model", "summary")
    assert code == 0
    assert "3,633,152" in out
    assert "3,504,340" in out


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_every_compression(squeeze: Callable[[bytes], bytes], kinmer: Kinmer) -> None:
    plain = write("a.fna", contigs(3, 2000))
    Path("b.fna").write_bytes(squeeze(plain.read_bytes()))
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    assert kinmer("count", "b.fna", "-o", "b.zarr")[0] == 0
    assert np.array_equal(ad.read_zarr("a.zarr").X, ad.read_zarr("b.zarr").X)


def test_quiet(kinmer: Kinmer) -> None:
    write("a.fna", contigs(3, 2000))
    assert kinmer("--quiet", "count", "a.fna", "-o", "a.zarr") == (0, "", "")
    code, _, err = kinmer("count", "a.fna", "-o", "b.zarr")
    assert code == 0
    assert "3 sequences" in err


def test_stdin(kinmer: Kinmer) -> None:
    plain = write("a.fna", contigs(3, 2000))
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    command = [sys.executable, "-m", "kinmer", "count", "-", "-o", "s.zarr"]
    subprocess.run(command, input=gzip.compress(plain.read_bytes()), check=True, capture_output=True)
    assert np.array_equal(ad.read_zarr("a.zarr").X, ad.read_zarr("s.zarr").X)


def test_import_and_export(kinmer: Kinmer) -> None:
    write("a.fna", contigs(4, 2000))
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    assert kinmer("export", "a.zarr", "k.npy", "k.txt")[0] == 0
    table = np.load("k.npy")
    assert table.shape == (4, 2773)
    assert table[:, 0].tolist() == [2000.0] * 4
    assert kinmer("import", "k.npy", "k.txt", "-o", "b.zarr")[0] == 0
    counts = ad.read_zarr("a.zarr").X.astype(float)
    assert np.allclose(ad.read_zarr("b.zarr").X[:, :2080], counts[:, :2080] / 1995, atol=1e-7)
    assert kinmer("info", "k.npy")[0] == 0


def test_fragment(kinmer: Kinmer) -> None:
    write("a.fna", contigs(2, 20_000))
    arguments = ("fragment", "a.fna", "--length", "500-5000", "--per-sequence", "5", "--seed", "3")
    assert kinmer(*arguments, "-o", "f.fna")[0] == 0
    assert kinmer(*arguments, "-o", "g.fna")[0] == 0
    assert Path("f.fna").read_bytes() == Path("g.fna").read_bytes()
    assert len(Path("f.fna.tsv").read_text().splitlines()) == 11
    assert kinmer("fragment", "a.fna", "--length", "x", "--per-sequence", "5", "-o", "h.fna")[0] == 2


GOOD = ">a\n" + "ACGTTGCA" * 200 + "\n"
BAD_SEQUENCES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "not FASTA": (b"hello\nworld\n", "not FASTA"),
    "FASTQ": (b"@r\nACGT\n+\nIIII\n", "FASTQ"),
    "protein": (b">p\nMKVLEEFPQ\n" * 1, "protein"),
    "too short": (b">a\nACGT\n", "no sequence is left"),
    "only N": (b">a\n" + b"N" * 2000 + b"\n", "no sequence is left"),
    "truncated": (gzip.compress(GOOD.encode() * 50)[:-20], "truncated"),
    "double id": (GOOD.encode() * 2, "twice"),
}


@pytest.mark.parametrize("name", BAD_SEQUENCES)
def test_bad_sequences(name: str, kinmer: Kinmer) -> None:
    data, expected = BAD_SEQUENCES[name]
    Path("bad.fna").write_bytes(data)
    code, out, err = kinmer("count", "bad.fna", "-o", "a.zarr", "--min-length", "1000")
    told(code, out, err, expected, "bad.fna" if name not in ("too short", "only N") else "")
    assert [one.name for one in Path().iterdir()] == ["bad.fna"]


def told(code: int, out: str, err: str, *expected: str) -> None:
    """One line, exit 2."""
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for text in expected:
        assert text.lower() in err.lower()


def test_double_ids_across_files_name_both(kinmer: Kinmer) -> None:
    write("a.fna", contigs(2, 2000))
    write("b.fna", {"x": "ACGT" * 500, "c1": "ACGT" * 500})
    code, out, err = kinmer("count", "a.fna", "b.fna", "-o", "a.zarr")
    told(code, out, err, "b.fna, record 2 ('c1')", "a.fna", "twice")
    assert not Path("a.zarr").exists()


def test_outputs_are_not_overwritten(kinmer: Kinmer) -> None:
    write("a.fna", contigs(12, 2000))
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    before = ad.read_zarr("a.zarr").X
    told(*kinmer("count", "a.fna", "-o", "a.zarr"), "exists", "--force", "--append")
    write("more.fna", {"new": "ACGTAC" * 300})
    assert kinmer("count", "more.fna", "-o", "a.zarr", "--append")[0] == 0
    after = ad.read_zarr("a.zarr")
    assert np.array_equal(after.X[:12], before)
    assert after.obs_names[12] == "new"
    told(*kinmer("count", "more.fna", "-o", "a.zarr", "--append"), "twice")
    assert ad.read_zarr("a.zarr").shape == (13, 2772)
    told(*kinmer("count", "more.fna", "-o", "a.zarr", "--append", "--max-k", "7"), "layout")
    assert kinmer("train", "a.zarr", "-o", "enc", *SMALL)[0] == 0
    told(*kinmer("train", "a.zarr", "-o", "enc", *SMALL), "exists")


def test_odd_but_good_input(kinmer: Kinmer) -> None:
    sequence = contigs(1, 3000)["c0"]
    lower, upper = sequence[:1000].lower(), sequence[1000:]
    odd = f"\n\n>id|with|bars é…\r\n{lower}\r\n\r\n{upper}\r\n>ünï code\nRYKM{'A' * 2000}"
    Path("odd.fna").write_text(odd, encoding="utf-8", newline="")
    write("plain.fna", {"plain": sequence})
    assert kinmer("count", "odd.fna", "plain.fna", "-o", "a.zarr")[0] == 0
    data = ad.read_zarr("a.zarr")
    assert data.obs_names.tolist() == ["id|with|bars", "ünï", "plain"]
    assert data.obs["length"].tolist() == [3000, 2004, 3000]
    assert np.array_equal(data.X[0], data.X[2])


def test_a_bad_table(kinmer: Kinmer) -> None:
    table = np.zeros((3, 2773), np.float32)
    Path("t.txt").write_text("a\nb\nc\n")
    for name, change in {
        "columns": table[:, :100],
        "NaN": np.where(np.arange(2773) == 5, np.nan, table).astype(np.float32),
        "negative": np.where(np.arange(2773) == 5, -1, table).astype(np.float32),
    }.items():
        np.save("t.npy", change)
        told(*kinmer("import", "t.npy", "t.txt", "-o", "t.zarr"), "t.npy", name)
        assert not Path("t.zarr").exists()
    np.save("t.npy", table)
    Path("t.txt").write_text("a\nb\n")
    told(*kinmer("import", "t.npy", "t.txt", "-o", "t.zarr"), "ids")
    assert not Path("t.zarr").exists()


def test_parts_that_do_not_belong_together(kinmer: Kinmer) -> None:
    write("a.fna", contigs(12, 2000))
    write("short.fna", {"tiny": "ACGTA"})
    for k, name in (("6", "six"), ("7", "seven")):
        assert kinmer("count", "a.fna", "-o", f"{name}.zarr", "--max-k", k)[0] == 0
    assert kinmer("train", "six.zarr", "-o", "enc", *SMALL)[0] == 0
    told(*kinmer("embed", "seven.zarr", "-e", "enc"), "7-mer")
    assert kinmer("embed", "six.zarr", "-e", "enc")[0] == 0
    assert kinmer("index", "six.zarr", "-o", "six.db")[0] == 0
    code, out, _ = kinmer("search", "short.fna", "--db", "six.db")
    assert (code, out.splitlines()[1].split("\t")[2]) == (0, "no profile: it is shorter than 6 letters")
    told(*kinmer("search", "a.fna", "--db", "six.zarr"))
    told(*kinmer("search", "--id", "nobody", "--db", "six.db"), "nobody")
    told(*kinmer("search", "--db", "six.db"), "--id")
    # info tells of anything that kinmer has made, and refuses the rest.
    assert kinmer("info", "six.db")[1].startswith("entries")
    told(*kinmer("info", "a.fna"))
    told(*kinmer("info", "nothing.zarr"), "nothing.zarr")
    weights = Path("enc/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    told(*kinmer("embed", "six.zarr", "-e", "enc", "--force"), "enc")
    config = Path("six.db/index.json")
    config.write_text(config.read_text().replace('"format": 3', '"format": 99'))
    assert kinmer("search", "a.fna", "--db", "six.db")[0] == 2


@pytest.mark.parametrize(
    "argv", [["nope"], ["count"], ["count", "a", "-o", "b", "--max-k", "99"], ["train", "--no-such-option"]]
)
def test_wrong_usage_is_one_line(argv: Sequence[str], kinmer: Kinmer) -> None:
    told(*kinmer(*argv))


def test_a_search_into_a_file_is_whole_or_absent(kinmer: Kinmer) -> None:
    write("a.fna", contigs(12, 2000))
    write("q.fna", {"good": "ACGT" * 300, "tiny": "ACG"})
    write("bad.fna", {"good": "ACGT" * 300, "protein": "MKVLAT"})
    assert kinmer("count", "a.fna", "-o", "a.zarr")[0] == 0
    assert kinmer("train", "a.zarr", "-o", "enc", *SMALL)[0] == 0
    assert kinmer("index", "a.zarr", "-o", "a.db", "-e", "enc")[0] == 0
    told(*kinmer("search", "bad.fna", "--db", "a.db", "-o", "hits.tsv"), "protein")
    assert not list(Path().glob("*hits*"))
    assert kinmer("search", "q.fna", "--db", "a.db", "-o", "hits.tsv", "--min-length", "6")[0] == 0
    assert len(Path("hits.tsv").read_text().splitlines()) == 11
    told(*kinmer("search", "q.fna", "--db", "a.db", "-o", "hits.tsv", "--min-length", "6"), "exists")


def test_ctrl_c_is_told_in_one_line() -> None:
    # Where the tests run in the background of a shell, Ctrl-C is switched off for all children.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kinmer.cli import main; main(['count', '-', '-o', 'a.zarr'])"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        # More than a pipe holds: it is at work, and then waits for more.
        process.stdin.write(b">a\n" + b"ACGT" * 100_000 + b"\n")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert said == "interrupted · what was saved is kept · the same command resumes\n"
    assert not Path("a.zarr").exists()
