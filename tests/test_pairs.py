"""Training on pairs: the loss against NumPy, what is learned, what is never seen, and resuming exactly."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.encoder import Encoder
from kinmer.errors import KinmerError, TrainingError, UsageError
from kinmer.fasta import read_records
from kinmer.fragments.packed import PackedSequences
from kinmer.kmers import KmerCounter
from kinmer.layout import profile_layout
from kinmer.networks import Linear, Residual, build_network
from kinmer.resources import cpu_threads
from kinmer.simulate import Community, write_community
from kinmer.training import TrainSettings, train
from kinmer.training.contrast import FragmentData, draw_probe, split_kin
from kinmer.training.losses import pair_loss
from tests.organisms import organisms

FOUR = profile_layout(4)
SMALL = TrainSettings(
    objective="pairs",
    network="linear",
    latent=8,
    hidden=(16,),
    batch=24,
    epochs=3,
    epoch_pairs=96,
    learning_rate=1e-3,
    precision="fp32",
    lengths=(1_000, 8_000),
    warmup_epochs=1,
)
VAE = replace(SMALL, network="vae", latent=16, hidden=(64,), learning_rate=2e-3)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The same sums in the same order as the child processes, and no quarrel with other tests."""
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """FASTA files and labels of 24 simulated species, two strains each."""
    folder = tmp_path_factory.mktemp("genomes") / "community"
    shape = Community(
        phyla=3, families=2, genera=2, species=2, strains=2, chromosome=60_000, plasmids=0, phages=0, seed=4
    )
    write_community(folder, community=shape)
    return sorted((folder / "genomes").iterdir()), folder / "taxonomy.tsv"


# --- the loss ---------------------------------------------------------------------------------------------


def by_hand(a: np.ndarray, b: np.ndarray, kin: np.ndarray, temperature: float, supervised: bool) -> float:
    """The loss, term by term."""
    a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (a, b))
    lost = []
    for one, other in ((a, b), (b, a)):
        for i in range(len(one)):
            scores = np.exp(one[i] @ other.T / temperature)
            same = np.flatnonzero(kin == kin[i]) if supervised else np.array([i])
            counted = [j for j in range(len(one)) if supervised or j == i or kin[j] != kin[i]]
            lost.append(np.mean([-np.log(scores[j] / scores[counted].sum()) for j in same]))
    return float(np.mean(lost))


@given(
    kin=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0.07, 0.5, 2.0]),
    supervised=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_loss_against_numpy(kin: list[int], seed: int, temperature: float, supervised: bool) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, len(kin), 5))
    found = pair_loss(
        torch.from_numpy(a),
        torch.from_numpy(b),
        torch.tensor(kin),
        temperature=temperature,
        kin_positives=supervised,
    )
    assert found.item() == pytest.approx(
        by_hand(a, b, np.array(kin), temperature, supervised), rel=1e-4, abs=1e-6
    )


def test_closed_forms() -> None:
    """Fragments that are all alike: log n. Partners alike and all others at right angles: by the formula."""
    kin, alike = torch.arange(7), torch.ones(7, 4)
    assert pair_loss(alike, alike, kin, temperature=0.07).item() == pytest.approx(np.log(7), rel=1e-6)
    apart = torch.eye(7)
    wanted = np.log(1 + 6 * np.exp(-1 / 0.5))
    assert pair_loss(apart, 3 * apart, kin, temperature=0.5).item() == pytest.approx(wanted, rel=1e-5)


def test_kin_are_no_negatives() -> None:
    """What stands in a kin's rows changes neither another's loss nor its gradient."""
    a, b = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    kin = torch.tensor([0, 0, 1, 2])

    def gradient(moved: float) -> torch.Tensor:
        first = a.clone().requires_grad_()
        second = torch.cat([b[:1], b[1:2] + moved, b[2:]])
        similar = torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T
        assert similar.shape == (4, 4)
        pair_loss(first, second, kin, temperature=0.2).backward()  # type: ignore[no-untyped-call]
        assert first.grad is not None
        moving: torch.Tensor = first.grad[0]
        return moving

    assert torch.equal(gradient(0.0), gradient(5.0))
    other = torch.tensor([0, 3, 1, 2])
    assert pair_loss(a, b, other, temperature=0.2) != pair_loss(a, b, kin, temperature=0.2)


# --- the residual network ---------------------------------------------------------------------------------


def test_a_residual_network_starts_at_its_linear_map() -> None:
    rng = np.random.default_rng(0)
    mean, weight = torch.from_numpy(rng.normal(size=10)), torch.from_numpy(rng.normal(size=(4, 10)))
    x = torch.from_numpy(rng.normal(size=(6, 10)).astype(np.float32))
    shape: dict[str, Any] = {"width": 10, "dim": 5, "optional": [(6, 10)], "anchor": 2.5}
    linear = Linear(**shape).fill(mean, weight)
    residual = Residual(**shape, hidden=(8, 3), dropout=0.5).fill(mean, weight)
    assert torch.equal(residual.eval().embed(x), linear.embed(x))
    with torch.no_grad():
        for parameter in residual.mlp[-1].parameters():
            parameter.add_(0.1)
    moved = residual.embed(x)
    assert not torch.equal(moved, linear.embed(x))
    again = build_network("residual", residual.settings()).eval()
    again.load_state_dict(residual.state_dict())
    assert torch.equal(again.embed(x), moved)
    for wrong in ({"hidden": ()}, {"hidden": (0,)}, {"dropout": 1.0}):
        with pytest.raises(UsageError):
            Residual(width=10, dim=4, **wrong)


# --- what is held out -------------------------------------------------------------------------------------


def test_whole_kin_are_held_out(genomes: tuple[list[Path], Path]) -> None:
    packed = PackedSequences.read(*genomes)
    kin = packed.groups.kin
    for share, wanted in ((0.1, 8), (0.5, 12)):
        train_on, held = split_kin(packed, share, seed=1)
        assert sorted([*train_on.tolist(), *held.tolist()]) == list(range(48))
        assert not set(kin[train_on].tolist()) & set(kin[held].tolist())
        assert len(set(kin[held].tolist())) == wanted
    assert split_kin(packed, 0.1, seed=2)[1].tolist() != split_kin(packed, 0.1, seed=1)[1].tolist()


def test_questions_and_answers_share_no_letter(genomes: tuple[list[Path], Path]) -> None:
    packed = PackedSequences.read(*genomes)
    train_on, held = split_kin(packed, 0.1, seed=0)
    from kinmer.training.contrast import _Halves

    halves = _Halves(packed, (1_000, 100_000), 0)
    for group in held.tolist():
        short, long = halves.short(group), halves.long(group)
        assert (short.begins >= packed.lengths[short.sequences] // 2).all()
        assert (long.begins + long.sizes <= packed.lengths[long.sequences] // 2).all()
        assert sorted(set(short.sizes.tolist())) == [1_000, 2_000, 5_000, 10_000]
    probe = draw_probe(
        packed, KmerCounter(FOUR), held, train_on, lengths=(1_000, 100_000), virus_share=None, seed=0
    )
    assert probe is not None
    assert len(probe.short) == 8 * len(held)
    assert len(probe.long) == 4 * 48
    assert probe.weights.sum() == pytest.approx(1)
    first, second = (probe.short_kin[probe.pairs[0]], probe.long_kin[probe.pairs[1]])
    assert np.array_equal(first, second)


def test_retrieval_is_counted_right(genomes: tuple[list[Path], Path]) -> None:
    packed = PackedSequences.read(*genomes)
    train_on, held = split_kin(packed, 0.1, seed=0)
    probe = draw_probe(
        packed, KmerCounter(FOUR), held, train_on, lengths=(1_000, 9_000), virus_share=None, seed=0
    )
    assert probe is not None
    kinds = np.concatenate([probe.short_kin, probe.long_kin])
    names = {one: place for place, one in enumerate(sorted(set(kinds.tolist())))}
    known = torch.eye(len(names))[[names[one] for one in kinds.tolist()]]
    loss, retrieval = probe.measure(known, 0.5)
    assert retrieval == pytest.approx(1)
    # The other strain of a species is masked, all other species are at right angles.
    others = len(set(packed.groups.kin[held].tolist())) - 1
    assert loss == pytest.approx(np.log(1 + 2 * others * np.exp(-1 / 0.5)), rel=1e-5)
    noise = torch.randn(len(kinds), 3, generator=torch.Generator().manual_seed(0))
    assert probe.measure(noise, 0.07)[1] < 0.2


def test_a_left_out_fold_is_never_drawn(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    packed = PackedSequences.read(*genomes)
    rows = [f"{name}\t{number % 4}" for number, name in enumerate(packed.ids)]
    folds = tmp_path / "folds.tsv"
    folds.write_text("\n".join(["sequence_id\tfold", *rows]) + "\n")
    left = PackedSequences.read(*genomes, folds=folds, fold=1)
    data = FragmentData(left, FOUR, replace(SMALL, epochs=1))
    data.load({})
    assert not {name for name in left.ids if packed.ids.index(name) % 4 == 1}
    assert data.report()["left_out"] == 12
    out = set(packed.ids) - set(left.ids)
    encoder = train(*_files(genomes), tmp_path / "e", settings=SMALL, folds=folds, fold="1", layout=FOUR)
    assert encoder.training["data"]["left_out"] == len(out) == 12


def _files(genomes: tuple[list[Path], Path]) -> tuple[list[Path]]:
    return (genomes[0],)


# --- training ---------------------------------------------------------------------------------------------


def test_training_finds_more_kin_of_unseen_species(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    """From principal components on 24 species; half of them are never seen in training."""
    lines: list[str] = []
    chosen = replace(VAE, epochs=8, epoch_pairs=960, validation=0.4)
    files, labels = genomes
    encoder = train(files, tmp_path / "e", settings=chosen, labels=labels, layout=FOUR, log=lines.append)
    results = encoder.training["results"]
    assert results["retrieval"] > results["start"]["retrieval"] + 0.1
    assert encoder.metrics[-1]["pair_loss"] < encoder.metrics[0]["pair_loss"]
    shares = [record["retrieval"] for record in encoder.metrics]
    assert results["retrieval"] == max(shares)
    assert results["epoch"] == shares.index(max(shares)) + 1 or shares.count(max(shares)) > 1
    number = r"[\d.,e+-]+"
    epochs = [line for line in lines if line.startswith("epoch")]
    told = rf"epoch \d/8  pairs {number}  val {number}  retrieval {number}  lr {number}"
    pattern = rf"{told}  {number} rows/s(  best)?"
    assert len(epochs) == 8
    assert all(re.fullmatch(pattern, line) for line in epochs)
    card = (tmp_path / "e" / "card.md").read_text()
    assert "held-out fragments whose nearest is of their kin" in card
    assert (tmp_path / "e" / "training.png").is_file()


def test_shuffled_labels_teach_nothing(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    """Four pieces of a genome as one group, or four of any genomes: where these have nothing in common."""
    pieces = [
        (f"{name}.{part}", letters[part * 15_000 : (part + 1) * 15_000].decode())
        for file in genomes[0][::2]
        for name, letters in read_records(file)
        for part in range(4)
    ]
    fasta = tmp_path / "pieces.fna"
    fasta.write_text("".join(f">{name}\n{letters}\n" for name, letters in pieces))
    losses = {}
    for name, order in (("right", np.arange(96)), ("wrong", np.random.default_rng(0).permutation(96))):
        labels = tmp_path / f"{name}.tsv"
        rows = [f"{pieces[one][0]}\tg{place // 4:02d}" for place, one in enumerate(order.tolist())]
        labels.write_text("\n".join(["sequence_id\tgenome_id", *rows]) + "\n")
        encoder = train(
            [fasta], tmp_path / name, settings=replace(VAE, epoch_pairs=960), labels=labels, layout=FOUR
        )
        losses[name] = encoder.metrics[-1]["pair_loss"]
    # Two fragments of one group are of one piece in a case of four; else any answer is as good as another.
    assert losses["wrong"] > 0.75 * np.log(12)
    assert losses["right"] < 0.55 * np.log(12), losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": "residual", "dropout": 0.2, "weight_decay": 0.01, "linear_rate": 0.1},
        {"objective": "both", "network": "vae", "hard": 0.5},
        {"objective": "vae", "network": "vae"},
        {"kin_positives": True, "reuse": 1},
    ],
    ids=["linear", "residual", "both", "vae", "supervised"],
)
def test_all_kinds_train_and_come_back(
    changes: dict[str, Any], genomes: tuple[list[Path], Path], tmp_path: Path
) -> None:
    chosen = replace(SMALL, **changes)
    files, labels = genomes
    encoder = train(files, tmp_path / "e", settings=chosen, labels=labels, layout=FOUR)
    again = train(files, tmp_path / "f", settings=chosen, labels=labels, layout=FOUR)
    assert encoder.fingerprint == again.fingerprint
    assert Encoder.load(tmp_path / "e").fingerprint == encoder.fingerprint
    counts = np.random.default_rng(0).integers(1, 50, (5, FOUR.width)).astype(np.uint32)
    vectors = encoder.embed(counts)
    assert np.isfinite(vectors).all()
    assert vectors.shape == (5, 8)
    record = encoder.metrics[-1]
    assert 0 <= record["retrieval"] <= 1
    told = {"pair_loss"} if chosen.objective == "pairs" else {"reconstruction", "kl", "mse"}
    assert told <= set(record)
    if chosen.objective == "both":
        vae = record["validation_reconstruction"] + 0.05 * record["validation_kl"]
        assert record["validation_loss"] == pytest.approx(vae + 100 * record["validation_pair_loss"])


def test_a_linear_network_starts_at_the_discriminant_solution(
    genomes: tuple[list[Path], Path], tmp_path: Path
) -> None:
    """With a learning rate of nearly nothing the encoder is the start, and the start is a good one."""
    chosen = replace(SMALL, learning_rate=1e-9, min_learning_rate=0.0, epochs=1)
    files, labels = genomes
    linear = train(files, tmp_path / "l", settings=chosen, labels=labels, layout=FOUR)
    residual = train(
        files, tmp_path / "r", settings=replace(chosen, network="residual"), labels=labels, layout=FOUR
    )
    start = linear.training["results"]["start"]["retrieval"]
    packed = PackedSequences.read(files, labels)
    train_on, held = split_kin(packed, 0.1, seed=0)
    probe = draw_probe(
        packed, KmerCounter(FOUR), held, train_on, lengths=(1_000, 8_000), virus_share=None, seed=0
    )
    assert probe is not None
    raw = torch.from_numpy(chosen.clr(np.concatenate([probe.short, probe.long]), FOUR))
    assert start > probe.measure(raw - raw.mean(dim=0), 0.07)[1] + 0.05
    assert residual.training["results"]["start"]["retrieval"] == start
    counts = np.random.default_rng(0).integers(1, 50, (5, FOUR.width)).astype(np.uint32)
    assert linear.embed(counts) == pytest.approx(residual.embed(counts), rel=1e-3, abs=1e-3)


def test_a_start_that_training_harms_is_kept(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    chosen = replace(SMALL, learning_rate=3.0)
    files, labels = genomes
    encoder = train(files, tmp_path / "e", settings=chosen, labels=labels, layout=FOUR)
    results = encoder.training["results"]
    assert results["epoch"] == 0
    assert results["retrieval"] == results["start"]["retrieval"]
    assert max(record["retrieval"] for record in encoder.metrics) < results["retrieval"]


def test_contigs_without_labels(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    lines: list[str] = []
    encoder = train(genomes[0], tmp_path / "e", settings=SMALL, layout=FOUR, log=lines.append)
    assert encoder.training["data"]["kin"] == 48
    assert encoder.training["data"]["training_groups"] == 40
    assert "48 sequences (" in lines[0]


# --- interrupted and killed -------------------------------------------------------------------------------

CHILD = """
from pathlib import Path
from kinmer.layout import profile_layout
from kinmer.training import TrainSettings, train
settings = TrainSettings.from_dict({settings!r})
train({files!r}, {output!r}, settings=settings, labels={labels!r}, layout=profile_layout(4), threads=1,
      checkpoint_seconds=0.0, log=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("network", ["linear", "residual"])
def test_killed_and_resumed_gives_the_weights_of_one_not_killed(
    network: Any, genomes: tuple[list[Path], Path], tmp_path: Path
) -> None:
    files, labels = genomes
    chosen = replace(SMALL, network=network, epochs=12, dropout=0.1, stop_patience=0)
    whole = train(files, tmp_path / "whole", settings=chosen, labels=labels, layout=FOUR)
    output = tmp_path / "killed"
    code = CHILD.format(
        settings=chosen.to_dict(), files=list(map(str, files)), output=str(output), labels=str(labels)
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 4/"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    lines: list[str] = []
    resumed = train(files, output, settings=chosen, labels=labels, layout=FOUR, log=lines.append)
    assert any(re.fullmatch(r"resuming at epoch \d+, step \d+", line) for line in lines)
    assert resumed.fingerprint == whole.fingerprint
    timed = ("seconds", "rows_per_second")
    ours, theirs = (
        [{key: value for key, value in one.items() if key not in timed} for one in encoder.metrics]
        for encoder in (resumed, whole)
    )
    assert ours == theirs


@pytest.mark.slow
def test_two_processes_train_one_encoder(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    files, labels = genomes
    chosen = replace(SMALL, network="residual")
    told = []
    for name in ("one", "other"):
        script = tmp_path / f"{name}.py"
        code = CHILD.replace("checkpoint_seconds=0.0", "checkpoint_seconds=1e9")
        script.write_text(
            code.format(
                settings=chosen.to_dict(),
                files=list(map(str, files)),
                output=str(tmp_path / name),
                labels=str(labels),
            )
        )
        run = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(script),
        ]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        told.append([line for line in done.stdout.splitlines() if line.startswith("epoch")])
    assert [len(lines) for lines in told] == [3, 3]
    one, other = Encoder.load(tmp_path / "one"), Encoder.load(tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    assert one.training["processes"] == 2
    # Two processes with half of the pairs each.
    assert one.training["data"]["pairs_of_a_step"] == 12


def test_the_command(
    genomes: tuple[list[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kinmer.cli import run

    files, labels = genomes
    options = "--preset pairs --latent 8 --batch 24 --epochs 1 --set epoch_pairs=24 --set lengths=1000x4000"
    more = "--no-coding --max-k 3 --set reuse=2 --hard 0.5 --set precision=fp32 -t 1"
    argv = ["train", *map(str, files), "-o", str(tmp_path / "e"), "--labels", str(labels)]
    assert run([*argv, *options.split(), *more.split()]) == 0
    encoder = Encoder.load(tmp_path / "e")
    assert (encoder.dim, encoder.layout.ks, encoder.layout.coding) == (8, (3, 2, 1), False)
    assert encoder.training["settings"]["lengths"] == [1_000, 4_000]
    assert encoder.training["settings"]["hard"] == 0.5
    err = capsys.readouterr().err
    assert "retrieval" in err
    assert "warning: --hard is an old name · write --set hard=0.5" in err
    assert run([*argv, "--force", "--set", "network=linear"]) == 2
    assert "pairs for the network linear" in capsys.readouterr().err


# --- what cannot work -------------------------------------------------------------------------------------


def test_what_is_refused(genomes: tuple[list[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the FASTA files"):
        train(organisms(50), tmp_path / "e", settings=SMALL)
    with pytest.raises(UsageError, match="belong to FASTA files"):
        train(organisms(50), tmp_path / "e", labels=genomes[1])
    with pytest.raises(UsageError, match="pairs for the network linear"):
        TrainSettings(network="linear")
    with pytest.raises(KinmerError):
        train([tmp_path / "none.fna"], tmp_path / "e", settings=SMALL)
    few = tmp_path / "few.fna"
    few.write_text(">a\n" + "ACGT" * 400 + "\n>b\n" + "AACT" * 400 + "\n")
    with pytest.raises(TrainingError):
        train([few], tmp_path / "e", settings=SMALL, layout=FOUR)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "none"},
        {"temperature": 0},
        {"lengths": (10, 5)},
        {"lengths": (1, 2, 3)},
        {"reuse": 0},
        {"hard": 1.5},
        {"virus_share": -0.1},
        {"dropout": 1},
        {"weight_decay": -1},
        {"epoch_pairs": 0},
        {"kin_positives": 1},
    ],
    ids=str,
)
def test_settings_of_pairs_are_checked_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        TrainSettings(**wrong)
