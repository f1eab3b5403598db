"""The reference that comes with kinmer: a compact index in one file, unpacked when it is first searched.

The file is a zip archive of an index's files. ``vectors`` has its vectors as whole numbers of 8 bits and
``scales`` one float32 for each (`kinmer.index.rows.quantized`); ``sketches`` has differences of neighboring
hashes, ``sizes`` the bytes of each sketch. The encoder is one that comes with kinmer. What is derived is left
out.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from kinmer.box.compilation import compile_beside
from kinmer.errors import FormatError
from kinmer.files import built_aside, file_checksum
from kinmer.inputs import parse_json
from kinmer.sketches import HASH_BYTES, pack_sketch, unpack_sketch

Log = Callable[[str], None]

REFERENCE = "kin-ref-1"
FILE = Path(__file__).parent / f"{REFERENCE}.zip"
FACTS, VECTORS, SCALES, SKETCHES, SIZES = "reference.json", "vectors", "scales", "sketches", "sizes"
# The same files give the same archive.
_DATE = (1980, 1, 1, 0, 0, 0)
_ENCODERS = Path(__file__).parent


def pack(
    folder: Path,
    output: Path,
    *,
    encoder: str,
    about: str,
    steps: NDArray[np.int8],
    scales: NDArray[np.float32],
    blob_sizes: Sequence[int],
) -> None:
    """Write the index in `folder` as one file.

    encoder : name of its encoder, which comes with kinmer. about : what it holds. steps (n, dim),
    scales (n, 1) : its vectors. blob_sizes : bytes of its sketches, as they lie in their file.
    """
    (vectors,), (sketches,) = folder.glob("vectors-*"), folder.glob("sketches-*.bin")
    kept = ("index.json", "calibration.json", "entries.sqlite", "rows-*.bin")
    facts = {
        "encoder": encoder,
        "about": about,
        "dim": steps.shape[1],
        VECTORS: vectors.with_suffix(".f32").name,
        SKETCHES: sketches.name,
    }
    members = {
        FACTS: json.dumps(facts).encode(),
        VECTORS: steps.tobytes(),
        SCALES: scales.astype("<f4").tobytes(),
        SKETCHES: _folded(sketches.read_bytes(), blob_sizes),
        SIZES: np.array(blob_sizes, "<i4").tobytes(),
    }
    members |= {path.name: path.read_bytes() for pattern in kept for path in sorted(folder.glob(pattern))}
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(_member(name), data)


def _folded(blobs: bytes, sizes: Sequence[int]) -> bytes:
    """Sketches one behind the other, as differences of neighboring hashes, byte by byte: those are few."""
    edges = np.cumsum([0, *sizes])
    parts = [np.diff(unpack_sketch(blobs[a:b]), prepend=np.uint64(0)) for a, b in pairwise(edges.tolist())]
    every = np.concatenate([np.empty(0, np.uint64), *parts]).astype("<u8")
    return every.view(np.uint8).reshape(-1, 8)[:, :HASH_BYTES].T.tobytes()


def _unfolded(folded: bytes, sizes: Sequence[int]) -> bytes:
    planes = np.zeros((len(folded) // HASH_BYTES, 8), np.uint8)
    planes[:, :HASH_BYTES] = np.frombuffer(folded, np.uint8).reshape(HASH_BYTES, -1).T
    parts = np.split(planes.view("<u8").ravel(), np.cumsum(sizes)[:-1] // HASH_BYTES)
    return b"".join(pack_sketch(np.cumsum(part, dtype=np.uint64)) for part in parts)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def unpack(archive: Path, folder: Path) -> None:
    """Make the index in an archive of `pack` at `folder`, whole or not at all.

    Raises FormatError where the archive is damaged, OSError where nothing can be written.
    """
    with _opened(archive) as packed, built_aside(folder) as aside:
        facts = parse_json(packed.read(FACTS).decode())
        steps = np.frombuffer(packed.read(VECTORS), np.int8).reshape(-1, facts["dim"])
        scales = np.frombuffer(packed.read(SCALES), "<f4").reshape(-1, 1)
        (aside / facts[VECTORS]).write_bytes((steps.astype("<f4") * scales).tobytes())
        sizes = np.frombuffer(packed.read(SIZES), "<i4").tolist()
        (aside / facts[SKETCHES]).write_bytes(_unfolded(packed.read(SKETCHES), sizes))
        for name in packed.namelist():
            if name not in (FACTS, VECTORS, SCALES, SKETCHES, SIZES):
                (aside / name).write_bytes(packed.read(name))
        (aside / "encoder").mkdir()
        for name in ("config.json", "weights.safetensors", "metrics.jsonl", "card.md"):
            shutil.copyfile(_ENCODERS / facts["encoder"] / name, aside / "encoder" / name)


def boxed_rows() -> int:
    """Vectors of the index that comes with kinmer, packed or not."""
    with _opened(FILE) as archive:
        dim: int = parse_json(archive.read(FACTS).decode())["dim"]
        return archive.getinfo(VECTORS).file_size // dim


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An archive, while it is read; FormatError where it is damaged."""
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise FormatError(
            "the reference that comes with kinmer is damaged",
            str(error),
            "install kinmer again",
            place=archive,
        ) from error


def located_index(path: str | Path, log: Log | None = None) -> Path:
    """An index's folder, given it or the name of the one that comes with kinmer; a folder of that name wins.

    log : receives what the one that comes with kinmer holds.
    """
    if str(path) != REFERENCE or Path(path).exists():
        return Path(path)
    if log is not None:
        with _opened(FILE) as archive:
            about = parse_json(archive.read(FACTS).decode())["about"]
        log(f"{REFERENCE}, which comes with kinmer: {about}. Build your own: kinmer reference")
    return _boxed_reference(log)


def _boxed_reference(log: Log | None) -> Path:
    """The folder of the index that comes with kinmer, unpacked into the user's cache by the first call.

    Where there is no room for it, it lies in a temporary folder until the process ends.
    """
    folder = platformdirs.user_cache_path("kinmer") / f"{file_checksum(FILE):08x}" / f"{REFERENCE}.db"
    if (folder / "index.json").is_file():
        return folder
    compile_beside()
    if log is not None:
        log(f"unpacking {REFERENCE} into {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack(FILE, folder)
    except OSError:
        room = Path(tempfile.mkdtemp(prefix="kinmer-"))
        atexit.register(shutil.rmtree, room, ignore_errors=True)
        folder = room / folder.name
        unpack(FILE, folder)
    return folder
