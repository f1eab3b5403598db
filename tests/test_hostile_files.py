"""Files that others changed: one line and exit 0, 1 or 2; never a traceback, a hang or much memory."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import typer
import zstandard

from kinmer import inputs
from kinmer.cli import GENERAL, app, run
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, InputError, KinmerError, ProfileError, SequenceError, UsageError
from kinmer.fasta import read_blocks
from kinmer.fasta.streams import HEADROOM, ChunkReader
from kinmer.fragments.benchmarks import open_benchmark
from kinmer.inputs import map_array, open_regular, parse_json, read_bytes, read_json, read_lines, text_of
from kinmer.library.downloads import fetch
from kinmer.library.genomes import GenomeFile
from kinmer.library.metadata import stage_metadata
from kinmer.library.packages import find_genomes
from kinmer.networks import build_network
from kinmer.where import compile_where
from tests.hostile_worker import Kind, cases, make_base, outcome

SECONDS = 30


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    before = Path.cwd()
    os.chdir(folder)
    try:
        make_base(folder)
    finally:
        os.chdir(before)
    return folder


def wrong_with(base: Path, work: Path, kind: Kind, number: int, command: tuple[str, ...]) -> str:
    """What is wrong with how a command takes a changed file; empty for nothing."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    rng = np.random.default_rng([zlib.crc32(kind.path.encode()), number])
    file = work / kind.path
    file.write_bytes(kind.change(file.read_bytes(), rng))
    before = Path.cwd()
    os.chdir(work)
    try:
        code, _, err = outcome(command)
    except Exception as error:
        return f"{kind.path} {number}: {' '.join(command)}: {error!r}"
    finally:
        os.chdir(before)
    fine = code in (0, 1, 2) and "this is a bug" not in err and "Traceback" not in err
    # What db check finds stands in its report.
    told = bool(err) == (code != 0) or command[:2] == ("db", "check")
    short = err.count("\n") <= 1 and len(err) < 4000 and told
    return "" if fine and short else f"{kind.path} {number}: {' '.join(command)}: {code} {err[:300]}"


def tried(base: Path, work: Path, number: int, step: int = 1) -> list[str]:
    """What is wrong with every `step`-th of so many changes of every file."""
    chosen = list(cases(base, number))[::step]
    assert len(chosen) > 5
    found = [wrong_with(base, work, case.kind, case.number, case.command) for case in chosen]
    return [one for one in found if one]


def test_changed_files_are_refused_in_a_line(base: Path, tmp_path: Path) -> None:
    # All of them, and more changes of each, take longer.
    bad = tried(base, tmp_path / "work", 1, step=14)
    assert not bad, "\n".join(bad)


@pytest.mark.slow
def test_many_changed_files_are_refused_in_a_line(base: Path, tmp_path: Path) -> None:
    bad = tried(base, tmp_path / "work", 3, step=5)
    assert not bad, "\n".join(bad)


# --- JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a": ' * 50_000 + "1" + "}" * 50_000,
        '{"a": ' + "1" * 5000 + "}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        "[1]",
        "true",
        "",
    ],
)
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="damaged"):
        read_json(path)


def test_json_of_whole_pairs_and_numbers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": "\\ud83d\\ude00", "b": 1.5e3, "c": [18446744073709551615]}')
    assert read_json(path) == {"a": "\U0001f600", "b": 1500.0, "c": [18446744073709551615]}
    assert np.isnan(parse_json("NaN", nan=True))


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(FormatError, match=r"larger than .* bytes"):
        read_json(path)
    path.write_bytes(b"x" * 101)
    with pytest.raises(FormatError, match="larger than 100 bytes"):
        read_bytes(path, 100)
    assert read_bytes(path, 101) == b"x" * 101


# --- What is not a regular file -----------------------------------------------------------------------


def odd_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "nowhere").symlink_to(folder / "absent")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "socket"))
    return {one: folder / one for one in ("pipe", "zero", "loop", "nowhere", "folder", "socket")}


def test_pipes_devices_and_dead_links_are_refused_by_name(tmp_path: Path) -> None:
    for name, path in odd_files(tmp_path).items():
        readers = (
            open_regular,
            read_json,
            lambda path: list(read_lines(path)),
            map_array,
            lambda path: stage_metadata(path, tmp_path / "staged.sqlite"),
            find_genomes,
        )
        for reader in readers[:-1] if name == "folder" else readers:
            with pytest.raises((KinmerError, OSError), match=str(path)):
                reader(path)


@pytest.mark.parametrize("name", ["pipe", "zero", "loop", "nowhere", "socket"])
def test_odd_files_among_genomes_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "genomes"
    folder.mkdir()
    (folder / "a.fna").write_text(">a\nACGT\n")
    kinds_of = tmp_path / "odd"
    kinds_of.mkdir()
    odd = odd_files(kinds_of)[name]
    odd.rename(folder / "b.fna")
    if name == "loop":
        (folder / "b.fna").unlink()
        (folder / "b.fna").symlink_to("b.fna")
    with pytest.raises(InputError, match=r"b\.fna"):
        find_genomes(folder)
    (folder / "b.fna").unlink()
    assert [one.genome for one in find_genomes(folder)] == ["a"]


def test_a_device_is_no_fasta_and_a_pipe_is(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="/dev/zero: this is a device"):
        list(read_blocks("/dev/zero"))
    with pytest.raises(SequenceError, match="zero byte"):
        list(read_blocks("a\x00b"))
    pipe = tmp_path / "pipe.fna"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(">a\nACGT\n"))
    writer.start()
    assert [one for block in read_blocks(pipe) for one in block.ids] == ["a"]
    writer.join()


# --- Tables -------------------------------------------------------------------------------------------------


def limited(code: str, *, megabytes: int = 2000) -> subprocess.CompletedProcess[str]:
    """Python code in a process that may have so much memory."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)

    return subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, timeout=SECONDS
    )


def test_a_line_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tsv.gz"
    path.write_bytes(gzip.compress(b"id\tgenus\n" + bytes(40 << 20), 1))
    code = (
        "from pathlib import Path\nfrom kinmer.library.metadata import stage_metadata\n"
        f"stage_metadata({str(path)!r}, Path({str(tmp_path / 's.sqlite')!r}))"
    )
    done = limited(code, megabytes=4000)
    assert f"{path}, line 2: the line is longer than 16,777,216 bytes" in done.stderr


def test_lines_that_inflate_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "RATIO_FROM", 1 << 20)
    path = tmp_path / "bomb.tsv.gz"
    path.write_bytes(gzip.compress(b"a\tb\n" * (1 << 20)))
    with pytest.raises(InputError, match="inflates to more than 200 times"):
        for _ in read_lines(path):
            pass


def test_lines_are_those_that_are_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["x\u2028y" * int(one) for one in rng.integers(0, 200_000, 30)] + ["", "last"]
    for data in (
        "\n".join(lines).encode(),
        "\r\n".join(lines).encode(),
        b"\xef\xbb\xbf" + "\n".join(lines).encode(),
    ):
        for packed in (
            data,
            gzip.compress(data, 1),
            gzip.compress(data[:1000]) + gzip.compress(data[1000:], 1),
        ):
            (tmp_path / "a").write_bytes(packed)
            found = list(read_lines(tmp_path / "a"))
            assert [text.decode() for _, text in found] == lines
            assert [number for number, _ in found] == list(range(1, len(lines) + 1))


def test_a_gzip_that_is_cut_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a\n" * 10_000)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        list(read_lines(tmp_path / "a.gz"))


def test_a_download_ends_at_its_size(tmp_path: Path) -> None:
    """A server that never ends, without a length."""
    sent = 0

    def serve(server: socket.socket) -> None:
        nonlocal sent
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n>a\n")
                try:
                    for _ in range(4000):
                        sent += peer.send(b"ACGT" * 4096)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.fna"
        with pytest.raises(
            InputError, match="larger than it should be · the server sends more, expected 100"
        ):
            list(fetch([GenomeFile(None, url, "a", size=100)], tmp_path / "down", retries=0))
    assert sent < 32 << 20
    assert not list((tmp_path / "down").rglob("*.fna*"))


# --- Arrays and encoders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1 << 40, 2773), (1 << 62, 1 << 62), (-1, 4), (True, 4), (3, 4, 0, -5)], ids=str
)
def test_a_shape_larger_than_its_file_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.npy"
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64))
    with pytest.raises(ProfileError, match=r"a\.npy"):
        map_array(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (7,)])
def test_arrays_are_mapped_as_numpy_loads_them(tmp_path: Path, order: str, shape: tuple[int, ...]) -> None:
    table = np.asarray(np.random.default_rng(0).random(shape), "<f4", order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", table)
    assert np.array_equal(map_array(tmp_path / "a.npy"), np.load(tmp_path / "a.npy"))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    from kinmer.box import located

    return Path(shutil.copytree(located("kin-1"), tmp_path / "enc"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vae", {"width": 2772, "hidden": [8] * 200_000}),
        ("vae", {"width": 2772, "hidden": [1 << 20, 1 << 20]}),
        ("vae", {"width": 2772, "latent": True, "hidden": [8]}),
        ("vae", {"width": 2772, "latent": 8, "hidden": [True]}),
        ("linear", {"width": 1 << 40, "dim": 1 << 40}),
        ("linear", {"width": 3602, "dim": True}),
        ("linear", {"width": 2772, "dim": 8, "optional": [[0, 1]] * 200_000}),
        ("columns", {"width": 10, "start": False, "stop": True}),
    ],
)
def test_networks_out_of_bounds_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="settings of the network"):
        build_network(name, settings)


def test_an_encoder_larger_than_its_weights_is_refused_before_it_is_built(encoder: Path) -> None:
    config = json.loads((encoder / "config.json").read_text())
    config["network"] = {"name": "vae", "settings": {"width": 3602, "latent": 60_000, "hidden": [60_000]}}
    (encoder / "config.json").write_text(json.dumps(config))
    # 43 GB, were it built.
    with pytest.raises(FormatError, match="the weights do not fit the network"):
        Encoder.load(encoder)


def test_an_encoder_whose_network_is_gone_is_told(encoder: Path) -> None:
    config = json.loads((encoder / "config.json").read_text())
    config["network"] = {"name": "residual", "settings": {"width": 3602, "dim": 256, "hidden": [512]}}
    (encoder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"no longer reads .*'residual'.* kinmer 0\.1, or .* kinmer fit"):
        Encoder.load(encoder)


@pytest.mark.parametrize("header", [1 << 62, 200 << 20, 0])
def test_a_header_of_weights_out_of_bounds_is_refused(encoder: Path, header: int) -> None:
    weights = encoder / "weights.safetensors"
    weights.write_bytes(header.to_bytes(8, "little") + weights.read_bytes()[8:])
    with pytest.raises(FormatError, match=r"damaged|cannot be read"):
        Encoder.load(encoder)


# --- Conditions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['\\"', '"\\', "'", "`", '"', "a ", "(", "not ", "- ", "a.", "\\'"])
def test_conditions_of_a_hundred_thousand_letters_are_refused(text: str) -> None:
    """The time grew with the square of their length: 60 kB of ``\\"`` took 16 s, these would take minutes."""
    for tail in ("", "\\", '"', "x"):
        with pytest.raises(UsageError, match=r"not a condition|cannot|no column|not a column"):
            compile_where(text * (100_000 // len(text)) + tail, ["genus"])


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ('genus = "x"', "write =="),
        ('genus === "x"', "write =="),
        ('genus == "x" && length > 3', "write and"),
        ('genus == "x" & length > 3', "write and"),
        ('genus == "x" || length > 3', "write or"),
        ('genus <> "x"', "write !="),
        ("length => 5", "write >="),
        ('genus like "x%"', "like stands behind a point"),
        ('genus == "x" AND length > 3', "written small"),
        ("genus == Vibrio cholerae", "between quotation marks"),
        ("genus == Vibrio", "between quotation marks"),
        ("genus == “x”", "quotation marks"),
        ("length > 5kb", "no unit"),
        ("length > 1,000", "no commas"),
        ("length between 3 and 5", "1000 < length < 5000"),
        (f"0x{'f' * 6000} == genus", "not a value"),
    ],
)
def test_what_other_languages_write_is_explained(text: str, check: str) -> None:
    with pytest.raises(UsageError) as told:
        compile_where(text, ["genus", "length"])
    assert check in str(told.value)


# --- Paths and messages -------------------------------------------------------------------------------------


def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 2000))
    Path(os.fsdecode(b"caf\xe9.fna")).write_text(f">a\n{letters}\n")
    name = os.fsdecode(b"caf\xe9.fna")
    assert text_of(name) == "caf\\xe9.fna"
    for command in (
        ("count", name, "-o", "a.zarr"),
        ("index", name, "-o", "a.db", "--no-calibrate"),
        ("reference", ".", "-o", "r.db", "--no-calibrate"),
    ):
        code, _, err = outcome(command)
        assert code == 0, err
    code, out, _ = outcome(("search", name, "--db", "r.db", "-k", "1"))
    assert code == 0
    assert "caf\\xe9" in out


@pytest.mark.parametrize("argv", [["count", ""], ["info", "a\x00b"], ["count", "a.fna", "-o", ""]])
def test_empty_arguments_and_zero_bytes(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    assert "is empty" in (err := capsys.readouterr().err) or "zero byte" in err


def test_messages_are_of_bounded_length() -> None:
    assert len(str(InputError("x" * 10**6, "y" * 10**6, "z" * 10**6))) < 3000


@pytest.mark.parametrize(
    "argv",
    [
        ["count", "--debug", "x"],
        ["db", "info", "x", "--quiet"],
        ["count", "x", "-q"],
        ["db", "-q", "info", "x"],
        ["info", "--version"],
    ],
)
def test_options_of_all_commands_say_where_they_stand(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    err = capsys.readouterr().err
    option = next(one for one in argv if one.startswith("-"))
    assert err.startswith(f"error: {option} stands before the command · write kinmer {option} {argv[0]}")
    assert err.count("\n") == 1


def test_every_option_of_all_commands_is_known() -> None:
    command = typer.main.get_command(app)
    names = {name for one in command.params for name in one.opts}
    assert names - {"--help", "-h"} == set(GENERAL)


# --- Memory that a file asks for ----------------------------------------------------------------------------


def windowed(data: bytes, log: int) -> bytes:
    """Zstandard that cannot be unpacked without a window of 2 to the power `log` bytes."""
    settings = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return packer.compress(data) + packer.flush()


def dictionary(data: bytes, bits: int) -> bytes:
    """An xz file whose header asks for a dictionary of a size of its own, in the format's ``bits``."""
    packed = bytearray(lzma.compress(data, check=lzma.CHECK_NONE))
    header = packed[12 : 12 + (packed[12] + 1) * 4]
    at = header.index(b"\x21\x01") + 2
    header[at] = bits
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    packed[12 : 12 + len(header)] = header
    return bytes(packed)


@pytest.mark.parametrize(
    ("packed", "most"),
    [
        (dictionary(b">a\nACGT\n", 40), 256),  # 4 GB
        (dictionary(b">a\nACGT\n", 34), 256),  # 512 MB
        (windowed(b">a\n" + b"ACGT" * 100, 31), 128),
        (windowed(b">a\n" + b"ACGT" * 100, 28), 128),
    ],
    ids=["xz 4 GB", "xz 512 MB", "zstd 2 GB", "zstd 256 MB"],
)
def test_memory_that_a_packed_file_asks_for_is_bounded(tmp_path: Path, packed: bytes, most: int) -> None:
    (tmp_path / "a.fna").write_bytes(packed)
    with pytest.raises(SequenceError, match=rf"a\.fna: the file asks for more than {most} MB of memory"):
        list(read_blocks(tmp_path / "a.fna"))


def test_what_packers_write_at_their_utmost_is_read(tmp_path: Path) -> None:
    data = b">a\n" + bytes(np.random.default_rng(0).choice(list(b"ACGT"), 60_000)) + b"\n"
    packed = {
        "xz -9e": lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "xz, 128 MB": dictionary(data, 30),
        # Python's own lzma takes what comes behind the zeros for rubbish, and leaves it out.
        "xz, two streams": lzma.compress(data[:1000]) + bytes(8) + lzma.compress(data[1000:]) + bytes(4),
        "xz, nothing first": lzma.compress(b"") + lzma.compress(data),
        "zstd --long=27": windowed(data, 27),
    }
    for name, content in packed.items():
        (tmp_path / "a.fna").write_bytes(content)
        with ChunkReader(tmp_path / "a.fna", 1 << 16) as reader:
            found = b"".join(bytes(one.buffer[HEADROOM : one.stop]) for one in reader)
        assert found == data, name


def test_xz_that_is_cut_or_goes_on_is_refused(tmp_path: Path) -> None:
    whole = lzma.compress(b">a\n" + b"ACGT" * 1000)
    for content in (whole[:-20], whole[:30], whole + b"no xz, but more of it"):
        (tmp_path / "a.fna").write_bytes(content)
        with pytest.raises(SequenceError, match=r"a\.fna: the file (is truncated|cannot be read)"):
            list(read_blocks(tmp_path / "a.fna"))


def test_journals_of_many_files_are_read_and_as_many_values_are_not(tmp_path: Path) -> None:
    path = tmp_path / "making.json"
    name = "/data/genomes/refseq/GCF_{0:09}.1/GCF_{0:09}.1_ASM{0}v1_genomic.fna.gz"
    files = {name.format(number): "0123456789abcdef" * 4 for number in range(500_000)}
    path.write_text(json.dumps({"source": {}, "files": files}, indent=2))
    assert path.stat().st_size > 64 << 20
    assert read_json(path)["files"] == files
    path.write_bytes(b'{"a": [' + b"[]," * (22 << 20) + b"[]]}")
    with pytest.raises(FormatError, match="holds more than 8,000,000 values"):
        read_json(path)


# --- Another kind of file than is wanted --------------------------------------------------------------------


MISTAKES = [
    ("cluster q.fna -o new", "not a profile store · it is FASTA"),
    ("map enc -o new", "not a profile store · it is an encoder"),
    ("analyze hubs bench", "not a profile store · it is a benchmark"),
    ("report clusters", "not a profile store · it is a folder of clusters"),
    ("export a.db new.npy new.txt", "not a profile store · it is an index"),
    ("fit nothing -o new", "not a profile store · it is an empty folder"),
    ("fit q.fna a.zarr -o new", "a.zarr: this is a profile store · sequences are expected, in FASTA"),
    ("map two.npy -o new --vectors raw", "a table of vectors has its own only"),
    ("map two.npy -o new --into labels.tsv", "this is not a map · it is a table"),
    ("map two.npy -o new --into a.db", "this is not a map · it is an index"),
    ("cluster two.npy -o new --method kmeans", "Invalid value for '--method': 'kmeans' is not one of"),
    ("cluster two.npy -o new --metadata q.fna", "this is FASTA, not a table of metadata"),
    ("evaluate retrieval bench -e a.zarr", "a.zarr: this is no encoder, but a profile store"),
    ("evaluate retrieval nothing -e kin-1", "nothing: this is no benchmark, but an empty folder"),
    ("evaluate clusters nowhere --labels labels.tsv", "nowhere: no such file"),
    ("evaluate clusters two.npy --labels labels.tsv", "this is an .npy table, not a table"),
    ("evaluate clusters q.fna --labels labels.tsv", "id or sequence_id · this is FASTA"),
    ("fit q.fna -o new --labels names.tsv", "no column sequence_id · the first line has id, genus, size"),
    ("fit q.fna -o new --labels q.fna", "no column sequence_id · this is FASTA"),
    ("export a.zarr new.npy nothing", "nothing: the output exists, and is a folder"),
    ("export new.npy new.txt a.zarr", "a.zarr: the output exists, and is a folder"),
    ("import old.txt old.npy -o new", "old.txt: this is not an .npy table, or it is cut off · it is a file"),
    ("import q.fna old.txt -o new", "q.fna: this is not an .npy table, or it is cut off · it is FASTA"),
    ("db info enc", "this folder is not an index · it is an encoder"),
]


def test_another_kind_of_file_is_called_by_its_name(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    (base / "nothing").mkdir()
    for line, said in MISTAKES:
        code, _, err = outcome(tuple(line.split()))
        assert (code, err.count("\n")) == (2, 1), (line, err)
        assert said in err, (line, err)
    code, out, err = outcome(("evaluate", "clusters", "clusters", "--labels", "names.tsv"))
    assert (code, err) == (0, "")
    assert "genus" in out


def test_what_a_benchmark_tells_is_believed_once_it_is_what_was_written(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base / "bench", tmp_path / "bench")
    path = tmp_path / "bench" / "benchmark.json"
    told = json.loads(path.read_text())
    assert open_benchmark(tmp_path / "bench").fingerprint == told["fingerprint"]
    changes: list[dict[str, object]] = [
        {"files": {}},
        {"files": 3},
        {"settings": None},
        {"fingerprint": None},
    ]
    for change in changes:
        path.write_text(json.dumps({**told, **change}))
        with pytest.raises(FormatError, match=r"benchmark\.json is damaged"):
            open_benchmark(tmp_path / "bench")


def test_a_map_beside_damaged_metadata_is_written_and_they_stay(base: Path, tmp_path: Path) -> None:
    """What is written beside a store's notes neither reads them nor vouches for them."""
    store = Path(shutil.copytree(base / "a.zarr", tmp_path / "a.zarr"))
    damaged = store / "uns" / "kinmer" / "made" / "zarr.json"
    document = json.loads(damaged.read_text())
    before = json.loads((store / "zarr.json").read_text())["attributes"]["kinmer"]["checksums"]
    damaged.write_text(json.dumps({**document, "codecs": 5}))
    code, _, err = outcome(("map", str(store), "-o", str(tmp_path / "m"), "--perplexity", "2", "--force"))
    assert (code, err) == (0, "")
    after = json.loads((store / "zarr.json").read_text())["attributes"]["kinmer"]["checksums"]
    assert after["uns/kinmer/made"] == before["uns/kinmer/made"]
