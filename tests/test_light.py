"""What kinmer does without PyTorch: all but training and networks; and what it says where that is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinmer.box import BOXED
from kinmer.clr import Clr
from kinmer.encoder import Encoder
from kinmer.layout import kmer_layout
from kinmer.linear import Columns, Projection
from kinmer.networks import Linear
from kinmer.simulate import Community, write_community
from tests.organisms import encoder_of

COMMUNITY = Community(
    phyla=2, families=1, genera=2, species=2, strains=1, chromosome=20_000, phages=1, seed=4
)

# Lets no import find PyTorch in the process, as where it is not installed.
HIDDEN = """
import sys
from importlib.machinery import PathFinder
class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.split(".")[0] == "torch" else super().find_spec(fullname, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
from kinmer.cli import run
"""


def run_hidden(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDDEN + code], capture_output=True, text=True, cwd=folder, check=False
    )


def fitted(clr: Clr, anchor: float = 0.0) -> Encoder:
    """A small linear encoder with random weights."""
    layout, rng = kmer_layout(3), np.random.default_rng(7)
    network = Projection(width=layout.width, dim=9, optional=[(32, 42)], anchor=anchor)
    shapes = network.shapes()
    return Encoder(
        network.load({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}),
        layout,
        clr,
    )


ENCODERS: dict[str, Any] = {
    **{name: lambda name=name: Encoder.load(name) for name in BOXED},
    "random": lambda: fitted(Clr()),
    "random, anchored": lambda: fitted(Clr(), 2.5),
    "columns": lambda: Encoder(Columns(width=44, start=3, stop=30), kmer_layout(3), Clr()),
}


def in_torch(encoder: Encoder, profiles: np.ndarray) -> np.ndarray:
    """The vectors as PyTorch gives them: transform, map and product, tensors throughout."""
    import torch

    x = encoder.clr(torch.from_numpy(np.ascontiguousarray(profiles, np.float32)), encoder.layout)
    if isinstance(encoder.network, Columns):
        vectors = x[:, encoder.network.start : encoder.network.stop]
    else:
        network = Linear(**encoder.network.settings()).load(encoder.network.weights())
        with torch.no_grad():
            vectors = network.embed(x)
    return np.asarray(vectors.numpy())


def sequences(encoder: Encoder, rows: int = 300) -> np.ndarray:
    """Counts of 30 kinds of sequence, from a few to millions of letters, some without reading frames."""
    rng, layout = np.random.default_rng(3), encoder.layout
    kind, letters = rng.integers(0, 30, rows), np.exp(rng.uniform(4, 14, rows))
    counts = np.empty((rows, layout.width), np.uint32)
    for block in layout.blocks:
        shares = rng.dirichlet(np.full(block.size, 0.5), 30)[kind]
        counts[:, block.columns] = rng.poisson(shares * letters[:, None])
        if block.kind != "k-mer":
            counts[::5, block.columns] = 0
    counts[7] = 0
    return counts


@pytest.mark.parametrize("name", ENCODERS)
def test_numpy_and_torch_give_the_same_vectors_and_neighbors(name: str) -> None:
    encoder = ENCODERS[name]()
    counts = sequences(encoder)
    odd: dict[str, np.ndarray] = {
        "many": counts,
        "a single row": counts[:1],
        "zeros": counts[7:8],
        "huge counts": counts[:9].astype(np.uint64) * 4_000_000_007,
        "other rows": counts[::-3],
        "by columns": np.asfortranarray(counts[:50]),
        "floats": counts[:50].astype(np.float64),
        "no rows": counts[:0],
    }
    for what, profiles in odd.items():
        ours, theirs = encoder.embed(profiles), in_torch(encoder, profiles)
        assert ours.shape == theirs.shape == (len(profiles), encoder.dim)
        assert ours.dtype == np.float32
        length = max(1.0, float(np.linalg.norm(theirs, axis=1).max(initial=0)))
        assert np.abs(ours - theirs).max(initial=0) <= 1e-6 * length, what
    # A sequence without a count has no direction but that of rounding.
    counts = np.delete(counts, 7, axis=0)
    similar = [cosines(encoder.embed(counts)), cosines(in_torch(encoder, counts))]
    ours, theirs = (np.argsort(-one, axis=1)[:, :10] for one in similar)
    # Rows that are as near as another to within rounding may change places.
    np.testing.assert_allclose(
        np.take_along_axis(similar[1], ours, 1), np.take_along_axis(similar[1], theirs, 1), rtol=0, atol=1e-6
    )


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(n, n) similarities, in float64."""
    exact = vectors.astype(np.float64)
    unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-30)
    return np.asarray(unit @ unit.T)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_linear_vector_is_the_same_to_the_last_bit_in_any_company(name: str) -> None:
    encoder = ENCODERS[name]()
    counts = sequences(encoder)
    wanted = encoder.embed(counts)
    for first, last in ((0, 1), (5, 7), (1, 4), (3, 131), (100, 228), (171, 300)):
        assert np.array_equal(encoder.embed(counts[first:last]), wanted[first:last])
    order = np.random.default_rng(1).permutation(len(counts))
    assert np.array_equal(encoder.embed(counts[order]), wanted[order])


def test_bf16_rounds_as_torch_does() -> None:
    import torch

    exact = fitted(Clr(), 2.5)
    rough = Encoder(exact.network, exact.layout, exact.clr, precision="bf16")
    counts = sequences(exact)
    x = exact.clr(torch.from_numpy(counts.astype(np.float32)), exact.layout)
    network = Linear(**exact.network.settings()).load(exact.network.weights())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = network.embed(x).float().numpy()
    ours = rough.embed(counts)
    # Where the sums differ in their last bit, the rounded ones may be neighbors among bfloat16's numbers.
    np.testing.assert_allclose(ours, wanted, rtol=2**-7, atol=0.01)
    assert (ours == wanted).mean() > 0.99
    assert rough.fingerprint != exact.fingerprint


def test_a_linear_encoder_stays_with_numpy_on_every_cpu(tmp_path: Path) -> None:
    exact = fitted(Clr())
    counts = sequences(exact)
    exact.save(tmp_path / "e")
    loaded = Encoder.load(tmp_path / "e", device="cpu:0")
    assert loaded.fingerprint == exact.fingerprint
    assert np.array_equal(loaded.embed(counts), exact.embed(counts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    write_community(folder / "community", community=COMMUNITY)
    encoder_of().save(folder / "vae")
    return folder


COMMANDS = """
from pathlib import Path
genomes = [str(file) for file in sorted(Path("community/genomes").iterdir())]
for command in (
    f"count {' '.join(genomes)} --coding -o my.zarr",
    "embed my.zarr",
    f"embed {genomes[0]} -o v.npy",
    "index my.zarr -o plain.db",
    "reference community/genomes -o kin.db",
    f"search {genomes[0]} --db kin.db",
    "db list kin.db",
    "db info kin.db",
    "db check kin.db",
    "cluster my.zarr -o clusters",
    "map my.zarr -o map --iterations 50",
    "report my.zarr -o page.html",
    "analyze neighbors my.zarr -o neighbors",
    "verify my.zarr -o verify -k 3",
    f"fit {' '.join(genomes)} -o mine --dim 4 --per-group 12 --max-k 3 --no-coding",
    f"embed {genomes[0]} -e mine -o w.npy",
    "model summary mine",
):
    assert run(command.split()) == 0, command
    assert "torch" not in sys.modules, command
"""


def test_all_but_training_works_without_torch(folder: Path) -> None:
    done = run_hidden(COMMANDS, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "train community/genomes/GENOME -o t",
        "sweep community/genomes/GENOME -o s --set latent=4",
        "embed community/genomes/GENOME -e vae -o n.npy",
        "embed community/genomes/GENOME --device cuda -o n.npy",
        "model summary",
    ],
)
def test_what_needs_torch_says_so_in_a_line(command: str, folder: Path) -> None:
    genome = min((folder / "community" / "genomes").iterdir()).name
    done = run_hidden(f"sys.exit(run({command.replace('GENOME', genome).split()!r}))", folder)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1, done.stderr
    assert "PyTorch is not installed" in lines[0]
    assert "pip install 'kinmer[train]'" in lines[0]
    assert "Traceback" not in done.stderr


LOADS = """
import sys
for step in (lambda: __import__("kinmer.cli"), lambda: run(["--help"]), *searches):
    step()
    heavy = {module.split(".")[0] for module in sys.modules} | {"scipy.linalg"} & set(sys.modules)
    print("LOADED", *heavy, file=sys.stderr)
"""
# What neither `kinmer --help` nor a search needs.
NEVER = {"torch", "matplotlib", "sklearn", "requests", "chromadb", "anndata", "zarr", "pandas", "optuna"}
NEVER |= {"h5py", "jinja2", "openTSNE", "igraph", "numcodecs", "scipy.linalg"}
# What a search needs, and nothing before.
ONLY_SEARCH = {"numpy", "numba", "usearch", "safetensors"}


def test_what_import_help_and_search_load(folder: Path) -> None:
    genome = min((folder / "community" / "genomes").iterdir()).name
    made = run_hidden('assert run("reference community/genomes -o light.db".split()) == 0', folder)
    assert made.returncode == 0, made.stderr
    search = f"search community/genomes/{genome} --db light.db"
    done = run_hidden(f"searches = [lambda: run({search.split()!r})]\n{LOADS}", folder)
    assert done.returncode == 0, done.stderr
    loaded = [set(line.split()[1:]) for line in done.stderr.splitlines() if line.startswith("LOADED")]
    assert len(loaded) == 3
    for modules in loaded:
        assert not modules & NEVER
    assert not loaded[1] & ONLY_SEARCH
    assert "numba" in loaded[2]


def test_a_second_search_reads_nothing_of_the_compiler(tmp_path: Path) -> None:
    """Random letters are of no kind: their genes are asked too."""
    letters = "".join(np.random.default_rng(3).choice(list("ACGT"), 4000))
    (tmp_path / "one.fna").write_text(f">one\n{letters}\n")
    code = "run(['search', 'one.fna', '-o', {0!r}, '--format', 'json', '--threads', '1'])\n"
    code += "print('numba.cpython.mathimpl' in sys.modules, 'kinmer.proteins.homologs' in sys.modules)"
    said = [run_hidden(code.format(name), tmp_path) for name in ("first.json", "second.json")]
    assert said[1].stdout.split() == ["False", "True"], said[1].stderr
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    # What compiles in the same process still finds all that it needs.
    code += "\nfrom numba import njit\nprint(njit(lambda x: sorted([x, 1])[0])(2))"
    assert run_hidden(code.format("third.json"), tmp_path).stdout.split()[-1] == "1"
