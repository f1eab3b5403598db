"""Files as others might send them: every kind that kinmer reads, changed as a person or a tool might."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import sqlite3
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import zstandard

from kinmer.cli import run

__all__ = ["Case", "Kind", "cases", "kinds", "make_base", "outcome"]

Rng = np.random.Generator


class Kind(NamedTuple):
    """A file that is read: its path in the base folder, what changes it, and the commands that read it."""

    path: str
    change: Callable[[bytes, Rng], bytes]
    commands: tuple[tuple[str, ...], ...]


class Case(NamedTuple):
    """One changed file and one command that reads it."""

    kind: Kind
    number: int
    command: tuple[str, ...]


DEEP = "[" * 100_000 + "]" * 100_000
# Of JSON texts; what stands in the place of any value.
VALUES = (
    "true",
    "false",
    "null",
    "-1",
    "0",
    "1.5",
    "1" * 5000,
    "-" + "9" * 400,
    "1e999",
    "NaN",
    "-Infinity",
    '""',
    '"x"',
    '"\\ud800"',
    '"\\u0000"',
    '"../../../etc/passwd"',
    "[]",
    "{}",
    "[null]",
    '{"a": 1}',
    "9223372036854775808",
    "18446744073709551615",
    "[" + "0," * 200_000 + "0]",
    DEEP,
    json.dumps("y" * 100_000),
)
MARK = "\x07mark\x07"


def json_values(data: bytes, rng: Rng) -> bytes:
    """A value, at any depth, is another; or a key is missing, or has another name."""
    tree = json.loads(data)
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(tree)
    if not spots:
        return data
    node, key = spots[int(rng.integers(len(spots)))]
    what = int(rng.integers(len(VALUES) + 2))
    if what == len(VALUES):
        del node[key]
        return json.dumps(tree).encode()
    if what == len(VALUES) + 1 and isinstance(node, dict):
        node[f"{key}é"] = node.pop(key)
        return json.dumps(tree).encode()
    node[key] = MARK
    return json.dumps(tree).replace(json.dumps(MARK), VALUES[what % len(VALUES)]).encode()


def json_lines(data: bytes, rng: Rng) -> bytes:
    lines = data.splitlines()
    if not lines:
        return VALUES[int(rng.integers(len(VALUES)))].encode()
    at = int(rng.integers(len(lines)))
    lines[at] = json_values(lines[at], rng)
    return b"\n".join(lines)


def raw(data: bytes, rng: Rng) -> bytes:
    """What happens to any file: bits flip, it is cut, emptied, lengthened, or is another kind altogether."""
    work = bytearray(data)
    kind = int(rng.integers(10))
    at = int(rng.integers(max(1, len(work))))
    if kind == 0 and work:
        work[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del work[at:]
    elif kind == 2:
        work = bytearray()
    elif kind == 3:
        work[at:at] = rng.bytes(50)
    elif kind == 4:
        work[at:at] = bytes(1000)
    elif kind == 5:
        work = bytearray(gzip.compress(bytes(work)))
    elif kind == 6:
        work = bytearray(bytes(work).decode("utf-8", "replace").encode("utf-16"))
    elif kind == 7:
        work = bytearray(rng.bytes(300))
    elif kind == 8:
        work = bytearray(DEEP.encode())
    else:
        work[at:at] = "\x1b]0;é\u202e\udcff\x00".encode("utf-8", "surrogatepass")
    return bytes(work)


FIELDS = (
    "",
    ".",
    "NA",
    '"',
    "'",
    "$\\badsym$",
    "_x",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\udcff",
    "a\x00b",
    "a\rb",
    "1" * 5000,
    "1e999",
    "-1",
    "../x",
    "x" * 200_000,
    "d__;p__;c__",
    "d__Bacteria;p__" + "y" * 1000,
    "{",
    "\u2028",
    "=1+1",
)


def table(data: bytes, rng: Rng) -> bytes:
    """A field is another, a line is missing, doubled, or has more or fewer fields; or another separator."""
    lines = [line.split(b"\t") for line in data.splitlines()]
    row = int(rng.integers(len(lines)))
    line = lines[row]
    kind = int(rng.integers(8))
    at = int(rng.integers(len(line)))
    if kind < 4:
        line[at] = FIELDS[int(rng.integers(len(FIELDS)))].encode("utf-8", "surrogatepass")
    elif kind == 4:
        lines.insert(row, line)
    elif kind == 5:
        del lines[row]
    elif kind == 6:
        line.append(b"more")
    else:
        return data.replace(b"\t", (b",", b";", b" ", b"|")[int(rng.integers(4))])
    return b"\n".join(b"\t".join(one) for one in lines) + b"\n"


def npy_header(data: bytes, rng: Rng) -> bytes:
    """The header of an ``.npy`` says something else."""
    length = struct.unpack("<H", data[8:10])[0]
    text = data[10 : 10 + length].decode()
    shape = text[text.index("(") : text.index(")") + 1]
    others = (
        "(2,)",
        "()",
        "(-1, 2773)",
        "(9223372036854775807, 2773)",
        "(True, 2773)",
        "(" * 200,
        "[1]",
        "(1e9, 2)",
    )
    types = ("'|O'", "'<U100000000'", "'<f2'", "[('a', '<f4')]", "'x'", "None", "'<f8'", "'<c16'", "'>f4'")
    if rng.random() < 0.5:
        text = text.replace(shape, others[int(rng.integers(len(others)))])
    else:
        text = text.replace("'<f4'", types[int(rng.integers(len(types)))])
    packed = text.encode()
    return data[:8] + struct.pack("<H", len(packed)) + packed + data[10 + length :]


def tensors(data: bytes, rng: Rng) -> bytes:
    """The header of a safetensors file says something else, or is as long as it says."""
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = data[8 : 8 + length], data[8 + length :]
    kind = int(rng.integers(4))
    if kind == 0:
        lengths = (0, 1, 1 << 62, (1 << 64) - 1, len(data), len(data) * 2, 200 << 20)
        return struct.pack("<Q", lengths[int(rng.integers(len(lengths)))]) + header + rest
    if kind == 1:
        many = {f"layer{at}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for at in range(20_000)}
        header = json.dumps({**json.loads(header), **many}).encode()
    else:
        header = json_values(header.rstrip(b" "), rng)
    return struct.pack("<Q", len(header)) + header + rest


def packed_by(pack: Callable[[bytes], bytes]) -> Callable[[bytes, Rng], bytes]:
    """A packed file that is damaged inside."""

    def change(data: bytes, rng: Rng) -> bytes:
        return raw(pack(data), rng)

    return change


def fasta(data: bytes, rng: Rng) -> bytes:
    """A FASTA file with what others have in theirs."""
    odd = (
        b">\n",
        b"> \n",
        b">a\x1b[31m b\nACGT\n",
        ">contig_α\nACGTACGTACGT\n".encode(),
        b">\xff\xfe\nACGT\n",
        b">" + b"x" * 100_000 + b"\nACGT\n",
        b">a\x00b\nACGT\n",
        ">\u202eabc\nACGTACGT\n".encode(),
        b">$\\badsym$\n" + b"ACGTTGCA" * 300 + b"\n",
        b">_b\n" + b"ACGTTGCATT" * 300 + b"\n",
        b"@q\nACGT\n+\nIIII\n",
        b"MKVLAAGHWWYRR\n",
        b"\r\r\r",
        b">n\n" + b"N" * 5000 + b"\n",
        b">e\n\n",
    )
    lines = data.splitlines(keepends=True)
    lines.insert(int(rng.integers(len(lines) + 1)), odd[int(rng.integers(len(odd)))])
    return b"".join(lines)


def sqlite_state(data: bytes, rng: Rng) -> bytes:
    """A value of any table of an index's SQLite file is another."""
    odd = (None, -1, 1 << 62, 1.5, "", "x", b"\xff\xfe", "[" * 10_000, "NaN", "1" * 5000, "\x1b[31m", "true")
    with closing(sqlite3.connect(":memory:")) as base:
        base.deserialize(data)
        names = [
            one
            for (one,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        names = [one for one in names if not one.startswith("sqlite_")]
        name = names[int(rng.integers(len(names)))]
        columns = [row[1] for row in base.execute(f'PRAGMA table_info("{name}")')]
        column = columns[int(rng.integers(len(columns)))]
        rows = base.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        where = f'(SELECT rowid FROM "{name}" LIMIT 1 OFFSET {int(rng.integers(max(1, rows)))})'
        try:
            sql = f'UPDATE "{name}" SET "{column}" = ? WHERE rowid = {where}'
            base.execute(sql, (odd[int(rng.integers(len(odd)))],))
            base.commit()
        except sqlite3.Error:
            base.rollback()
        return base.serialize()


def both(*changes: Callable[[bytes, Rng], bytes]) -> Callable[[bytes, Rng], bytes]:
    """One of several changes."""

    def change(data: bytes, rng: Rng) -> bytes:
        return changes[int(rng.integers(len(changes)))](data, rng)

    return change


def hdf5(data: bytes, rng: Rng) -> bytes:
    """An array, an attribute or a group of an HDF5 file is another, or is not there."""
    kept = io.BytesIO(data)
    odd: tuple[Any, ...] = (
        np.int64(-1),
        np.float64("nan"),
        "x",
        np.zeros(0),
        np.zeros((2, 2, 2)),
        np.full(8, -5),
        np.full(8, np.nan),
        np.full(8, 255, np.uint8),
        np.array(["y"] * 8, dtype=object),
        np.arange(8) * 1e300,
        np.zeros(8, np.complex128),
        np.ones((8, 3), bool),
        DEEP,
    )
    with h5py.File(kept, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[int(rng.integers(len(names)))]
        value = odd[int(rng.integers(len(odd)))]
        attributes = sorted(file[name].attrs)
        kind = int(rng.integers(4))
        if kind == 0 and attributes:
            with suppress(OSError, RuntimeError):
                file[name].attrs[attributes[int(rng.integers(len(attributes)))]] = value
        elif kind == 1:
            del file[name]
        elif kind == 2:
            file.create_group(f"new{name.replace('/', '')}")
            file.move(name, f"new{name.replace('/', '')}/x")
        else:
            del file[name]
            file[name] = value
    return kept.getvalue()


SEARCH = ("search", "q.fna", "--db", "a.db", "-k", "2")
INDEX = ("index", "q.fna", "-o", "new.db", "--force", "--no-calibrate")
REFERENCE = ("reference", "package", "-o", "new.db", "--force", "--no-calibrate")
TAXDUMP = (*INDEX, "--metadata", "taxids.tsv", "--taxdump", "taxdump")


def reading(store: str, *keep: str) -> tuple[tuple[str, ...], ...]:
    """Commands that read a profile store or another AnnData."""
    return (
        ("info", store),
        ("index", store, "-o", "new.db", "--force", "--no-calibrate"),
        ("map", store, "-o", "m", "--force", *keep),
        ("map", store, "-o", "m", "--from-store", "--force"),
        ("embed", store, "-e", "kin-1-kmers", "-o", "new.npy", "--force"),
        ("cluster", store, "-o", "new", "--force", *keep),
        ("analyze", "distances", store, "-o", "new", "--force"),
        ("analyze", "groups", store, "--by", "length", "--cluster", "length", "-o", "new", "--force"),
        ("verify", store, "-e", "kin-1-kmers", "-o", "new", "--sample", "8", "--bootstrap", "3", "--force"),
        ("export", store, "new.npy", "new.txt", "--force"),
        ("count", "more.fna", "-o", store, "--append"),
        ("search", store, "--db", "a.db", "-k", "2"),
    )


INTO = (
    ("map", "two.npy", "-o", "m", "--force", "--into", "map"),
    ("map", "map.json", "-o", "m", "--from-store", "--force"),
)
CLUSTERS = (
    ("cluster", "two.npy", "-o", "clusters"),
    ("cluster", "two.npy", "-o", "clusters", "--force"),
    (
        "evaluate",
        "clusters",
        "clusters/cluster_members.tsv",
        "--labels",
        "labels.tsv",
        "-o",
        "new",
        "--force",
    ),
)
BENCHMARK = (
    ("evaluate", "retrieval", "bench", "-e", "kin-1-kmers", "-o", "new", "--bootstrap", "3", "--force"),
    (
        *("fit", "q.fna", "-o", "fitted", "--method", "discriminant", "--dim", "2", "--per-group", "10"),
        *("--length", "500-900", "--labels", "labels.tsv", "--force"),
    ),
)
FOLDED = (
    (
        *("fit", "q.fna", "-o", "fitted", "--dim", "2", "--per-group", "10", "--length", "500-900"),
        *("--labels", "labels.tsv", "--folds", "bench/folds.tsv", "--fold", "1", "--force"),
    ),
)
LABELS = (
    ("fragment", "q.fna", "-o", "new.fna", "--force", "--labels", "labels.tsv", "--per-sequence", "1"),
    *CLUSTERS[2:],
    *BENCHMARK[1:],
    (
        "evaluate",
        "clusters",
        "labels.tsv",
        "--column",
        "genus",
        "--labels",
        "names.tsv",
        "-o",
        "new",
        "--force",
    ),
)
DATABASE = (
    SEARCH,
    ("db", "info", "a.db"),
    ("db", "list", "a.db"),
    ("db", "check", "a.db"),
    ("db", "add", "a.db", "more.fna", "--no-calibrate"),
    ("map", "a.db", "-o", "m", "--force"),
    ("db", "compact", "a.db"),
)
OPENED = (("model", "summary", "enc"), ("embed", "q.fna", "-e", "enc", "-o", "new.npy", "--force"))


def kinds(base: Path) -> list[Kind]:
    """Every kind of file in the base folder."""
    found = [
        Kind("names.tsv", both(table, raw), ((*INDEX, "--metadata", "names.tsv"),)),
        Kind(
            "names.tsv",
            both(table, raw),
            (("map", "two.npy", "-o", "m", "--force", "--metadata", "names.tsv"),),
        ),
        Kind("taxids.tsv", both(table, raw), (TAXDUMP,)),
        Kind("taxdump/nodes.dmp", both(table, raw), (TAXDUMP,)),
        Kind("taxdump/names.dmp", both(table, raw), (TAXDUMP,)),
        Kind("taxdump/merged.dmp", both(table, raw), (TAXDUMP,)),
        Kind("bac120_taxonomy.tsv", both(table, raw), ((*REFERENCE, "--metadata", "bac120_taxonomy.tsv"),)),
        Kind(
            "manifest.tsv",
            both(table, raw),
            (("reference", "manifest.tsv", "-o", "new.db", "--force", "--no-calibrate"),),
        ),
        Kind(
            "package/md5sum.txt",
            both(table, raw),
            (REFERENCE,),
        ),
        Kind(
            "package/ncbi_dataset/data/assembly_data_report.jsonl",
            both(json_lines, raw),
            (REFERENCE,),
        ),
        Kind("labels.tsv", both(table, raw), LABELS),
        Kind("bench/folds.tsv", both(table, raw), FOLDED),
        *(
            Kind(one.relative_to(base).as_posix(), both(table, raw), BENCHMARK[:1])
            for one in sorted((base / "bench").glob("*.tsv"))
        ),
        Kind("map.tsv", both(table, raw), INTO),
        Kind("clusters/cluster_members.tsv", both(table, raw), CLUSTERS),
        Kind("other.h5ad", both(hdf5, raw), reading("other.h5ad", "--no-keep")),
        Kind("two.npy", both(npy_header, raw), (("map", "two.npy", "-o", "m", "--force"),)),
        Kind("two.txt", both(table, raw), (("map", "two.npy", "-o", "m", "--force"),)),
        Kind(
            "old.npy",
            both(npy_header, raw),
            (("info", "old.npy"), ("import", "old.npy", "old.txt", "-o", "new.zarr", "--force")),
        ),
        Kind("old.txt", both(table, raw), (("info", "old.npy"),)),
        Kind("ids.txt", both(table, raw), (("db", "delete", "a.db", "--ids-from", "ids.txt"),)),
        Kind("enc/config.json", both(json_values, raw), OPENED),
        Kind("enc/weights.safetensors", both(tensors, raw), OPENED),
        Kind("enc/metrics.jsonl", raw, OPENED),
        Kind("enc/card.md", raw, OPENED),
        Kind("q.fna", both(fasta, raw), (("count", "q.fna", "-o", "new.zarr", "--force"), SEARCH, INDEX)),
        *(
            Kind("q.fna", packed_by(pack), (("count", "q.fna", "-o", "new.zarr", "--force"),))
            for pack in (gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress)
        ),
        Kind(
            "a.db/entries.sqlite",
            sqlite_state,
            DATABASE,
        ),
    ]
    found += [
        Kind(f"a.db/{name}", raw, DATABASE) for name in ("rows-0.bin", "vectors-0.f32", "entries.sqlite")
    ]
    readers = {
        "a.db": DATABASE,
        "a.zarr": reading("a.zarr"),
        "other.zarr": reading("other.zarr", "--no-keep"),
        "map.json": INTO,
        "clusters": CLUSTERS,
        "bench": BENCHMARK[:1],
    }
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        described = path.suffix == ".json" or path.name in (".zarray", ".zattrs", ".zgroup", ".zmetadata")
        if described and (commands := readers.get(name.partition("/")[0])):
            found.append(Kind(name, both(json_values, raw), commands))
    return found


def make_base(folder: Path) -> None:
    """All files, whole; commands run inside `folder`."""
    rng = np.random.default_rng(5)
    letters = np.frombuffer(b"ACGT", np.uint8)

    def records(names: list[str]) -> bytes:
        return b"".join(
            b">%s\n%s\n" % (one.encode(), letters[rng.integers(4, size=2500 + len(one) % 2)].tobytes())
            for one in names
        )

    names = [f"s{at}" for at in range(6)] + ["s10", "s11"]
    data = folder / "package" / "ncbi_dataset" / "data"
    for place in (folder / "taxdump", data / "GCF_000000001.1"):
        place.mkdir(parents=True)
    (folder / "q.fna").write_bytes(records(names))
    (folder / "more.fna").write_bytes(records(["t1", "t2"]))
    (folder / "names.tsv").write_text("id\tgenus\tsize\n" + "".join(f"{one}\tG{one}\t5\n" for one in names))
    (folder / "labels.tsv").write_text("sequence_id\tgenus\n" + "".join(f"{one}\tG{one}\n" for one in names))
    (folder / "taxids.tsv").write_text("id\ttaxid\n" + "".join(f"{one}\t3\n" for one in names))
    (folder / "ids.txt").write_text("s5\n")
    nodes = "1\t|\t1\t|\tno rank\t|\n2\t|\t1\t|\tdomain\t|\n3\t|\t2\t|\tspecies\t|\n"
    (folder / "taxdump" / "nodes.dmp").write_text(nodes)
    called = "".join(f"{at}\t|\tname {at}\t|\t\t|\tscientific name\t|\n" for at in (1, 2, 3))
    (folder / "taxdump" / "names.dmp").write_text(called)
    (folder / "taxdump" / "merged.dmp").write_text("9\t|\t3\t|\n")
    lineage = "d__Bacteria;p__A;c__B;o__C;f__D;g__E;s__E f"
    (folder / "bac120_taxonomy.tsv").write_text("".join(f"GCF_00000000{at}.1\t{lineage}\n" for at in (1, 2)))
    (folder / "manifest.tsv").write_text(
        "path\tgenome\tsize\nq.fna\tg1\t" + str((folder / "q.fna").stat().st_size) + "\n"
    )
    genome = data / "GCF_000000001.1" / "GCF_000000001.1_x_genomic.fna"
    genome.write_bytes(records(["p1", "p2"]))
    import hashlib

    digest = hashlib.md5(genome.read_bytes(), usedforsecurity=False).hexdigest()
    (folder / "package" / "md5sum.txt").write_text(
        f"{digest}  {genome.relative_to(folder / 'package').as_posix()}\n"
    )
    report = {
        "accession": "GCF_000000001.1",
        "organism": {"organismName": "E f", "taxId": 3},
        "assemblyInfo": {},
    }
    (data / "assembly_data_report.jsonl").write_text(json.dumps(report) + "\n")
    np.save(folder / "two.npy", rng.normal(size=(8, 6)).astype("<f4"))
    (folder / "two.txt").write_text("".join(f"{one}\n" for one in names))
    _made(folder)


def _made(folder: Path) -> None:
    """What kinmer itself makes of them."""
    from kinmer.box import located

    shutil.copytree(located("kin-1"), folder / "enc")
    for command in (
        ("count", "q.fna", "-o", "a.zarr"),
        ("embed", "a.zarr", "-e", "kin-1-kmers"),
        ("index", "q.fna", "-o", "a.db", "-e", "kin-1-kmers", "--metadata", "names.tsv", "--no-calibrate"),
        ("map", "a.zarr", "-o", "map"),
        ("export", "a.zarr", "old.npy", "old.txt"),
        ("map", "two.npy", "-o", "map", "--force"),
        ("cluster", "two.npy", "-o", "clusters"),
        (
            *("fragment", "q.fna", "-o", "bench", "--benchmark", "--labels", "labels.tsv"),
            *("--split", "genome", "--lengths", "500", "--folds", "2"),
        ),
    ):
        code, _, err = outcome(command)
        assert code == 0, err
    _write_anndata(folder)


def _write_anndata(folder: Path) -> None:
    """The store as AnnData writes it: Zarr of format 2, and HDF5."""
    import anndata

    data = anndata.read_zarr(folder / "a.zarr")
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=2):
        warnings.simplefilter("ignore")
        data.write_zarr(folder / "other.zarr")
    data.write_h5ad(folder / "other.h5ad")


def cases(base: Path, number: int) -> Iterator[Case]:
    """`number` changes of every kind, each with one of its commands in turn."""
    for place, kind in enumerate(kinds(base)):
        for at in range(number):
            yield Case(kind, at, kind.commands[(place + at) % len(kind.commands)])


def outcome(command: tuple[str, ...]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["--quiet", *command])
    return code, out.getvalue(), err.getvalue()
