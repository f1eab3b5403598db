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
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

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


SEARCH = ("search", "q.fna", "--db", "a.db", "-k", "2")
INDEX = ("index", "q.fna", "-o", "new.db", "--force", "--no-calibrate")
TAXDUMP = (*INDEX, "--metadata", "taxids.tsv", "--taxdump", "taxdump")
STORE = (
    ("info", "a.zarr"),
    ("index", "a.zarr", "-o", "new.db", "--force"),
    ("map", "a.zarr", "-o", "m", "--force"),
)
OPENED = (("model", "card", "enc"), ("embed", "q.fna", "-e", "enc", "-o", "new.npy", "--force"))


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
        Kind("bac120_taxonomy.tsv", both(table, raw), ((*INDEX, "--metadata", "bac120_taxonomy.tsv"),)),
        Kind(
            "manifest.tsv",
            both(table, raw),
            (("reference", "manifest.tsv", "-o", "new.db", "--force", "--no-calibrate"),),
        ),
        Kind(
            "package/md5sum.txt",
            both(table, raw),
            (("reference", "package", "-o", "new.db", "--force", "--no-calibrate"),),
        ),
        Kind(
            "package/ncbi_dataset/data/assembly_data_report.jsonl",
            both(json_lines, raw),
            (("reference", "package", "-o", "new.db", "--force", "--no-calibrate"),),
        ),
        Kind(
            "labels.tsv",
            both(table, raw),
            (("fragment", "q.fna", "-o", "new.fna", "--force", "--labels", "labels.tsv"),),
        ),
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
            (SEARCH, ("db", "info", "a.db"), ("db", "list", "a.db"), ("db", "check", "a.db")),
        ),
    ]
    for path in sorted(base.rglob("*.json")):
        name = path.relative_to(base).as_posix()
        if name.startswith("a.db/"):
            found.append(
                Kind(name, both(json_values, raw), (SEARCH, ("db", "info", "a.db"), ("db", "check", "a.db")))
            )
        elif name.startswith("a.zarr/"):
            found.append(Kind(name, both(json_values, raw), STORE))
        elif name == "map.json":
            found.append(
                Kind(
                    name, both(json_values, raw), (("map", "two.npy", "-o", "m", "--force", "--into", "map"),)
                )
            )
    return found


def make_base(folder: Path) -> None:
    """All files, whole; commands run inside `folder`."""
    rng = np.random.default_rng(5)
    letters = np.frombuffer(b"ACGT", np.uint8)

    def records(names: list[str]) -> bytes:
        return b"".join(
            b">%s\n%s\n" % (one.encode(), letters[rng.integers(4, size=2500)].tobytes()) for one in names
        )

    names = [f"s{at}" for at in range(8)]
    data = folder / "package" / "ncbi_dataset" / "data"
    for place in (folder / "taxdump", data / "GCF_000000001.1"):
        place.mkdir(parents=True)
    (folder / "q.fna").write_bytes(records(names))
    (folder / "names.tsv").write_text("id\tgenus\tsize\n" + "".join(f"{one}\tG{one}\t5\n" for one in names))
    (folder / "labels.tsv").write_text("sequence_id\tgenus\n" + "".join(f"{one}\tG{one}\n" for one in names))
    (folder / "taxids.tsv").write_text("id\ttaxid\n" + "".join(f"{one}\t3\n" for one in names))
    (folder / "ids.txt").write_text("s7\n")
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
        ("index", "q.fna", "-o", "a.db", "--metadata", "names.tsv", "--no-calibrate"),
        ("export", "a.zarr", "old.npy", "old.txt"),
        ("map", "two.npy", "-o", "map"),
    ):
        code, _, err = outcome(command)
        assert code == 0, err


def cases(base: Path, number: int) -> Iterator[Case]:
    """`number` changes of every kind, each with one of its commands in turn."""
    for kind in kinds(base):
        for at in range(number):
            yield Case(kind, at, kind.commands[at % len(kind.commands)])


def outcome(command: tuple[str, ...]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["--quiet", *command])
    return code, out.getvalue(), err.getvalue()
