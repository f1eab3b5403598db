"""Training: it learns, it ends with the same weights whatever interrupts it, and refuses what cannot work."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinmer.cli.encoders import OLD_OPTIONS, _without_old_options
from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, KinmerError, TrainingError, UsageError
from kinmer.networks import Vae
from kinmer.training import TrainSettings, train, train_settings
from kinmer.training.checkpoints import Checkpoints
from kinmer.training.losses import vae_loss
from kinmer.training.settings import PRESETS, flat, settings_table
from tests.organisms import organisms

threads = torch.get_num_threads

SMALL = TrainSettings(
    latent=8, hidden=(32, 16), batch=64, epochs=6, learning_rate=2e-3, precision="fp32", warmup_epochs=2
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The same sums in the same order as the child processes, and no quarrel with other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in encoder.network.weights().items()}


def same_weights(one: Encoder, other: Encoder) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def without_time(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("seconds", "rows_per_second")
    return [{key: value for key, value in record.items() if key not in timed} for record in metrics]


def neighbour_agreement(vectors: np.ndarray, kinds: np.ndarray) -> float:
    """Share of rows whose nearest other row (Euclidean, brute force) is of the same organism."""
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((kinds[distances.argmin(axis=1)] == kinds).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Path, list[str]]:
    lines: list[str] = []
    path = tmp_path_factory.mktemp("trained") / "encoder"
    encoder = train(organisms(900), path, settings=replace(SMALL, epochs=12), log=lines.append)
    return encoder, path, lines


def test_it_learns(trained: tuple[Encoder, Path, list[str]]) -> None:
    encoder = trained[0]
    first, last = encoder.metrics[0], encoder.metrics[-1]
    assert last["mse"] < 0.5 * first["mse"]
    unseen = organisms(1100)[900:].copy()
    kinds = unseen.obs["kind"].to_numpy()
    untrained = Vae(width=44, latent=8, hidden=(32, 16), seed=1).eval()
    noise = Encoder(untrained, encoder.layout, encoder.clr).embed(np.ones_like(unseen.X))
    assert neighbour_agreement(encoder.embed(unseen.X), kinds) > 0.95
    assert neighbour_agreement(noise, kinds) < 0.5


def test_the_record_of_an_epoch_adds_up(trained: tuple[Encoder, Path, list[str]]) -> None:
    encoder, path, _ = trained
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == encoder.metrics
    sizes = {block.name: block.size for block in encoder.layout.blocks}
    for number, record in enumerate(encoder.metrics, start=1):
        assert record["epoch"] == number
        # Warm-up over two epochs: half the weight after the first one, all of it from the second on.
        assert record["beta"] == pytest.approx(0.05 * min(1, number / 2))
        assert record["validation_reconstruction"] == pytest.approx(44 * record["mse"], rel=1e-5)
        wanted = record["validation_reconstruction"] + 0.05 * record["validation_kl"]
        assert record["validation_loss"] == pytest.approx(wanted)
        blocks = sum(sizes[name] * mse for name, mse in record["blocks"].items()) / 44
        assert blocks == pytest.approx(record["mse"], rel=1e-5)
    assert list(encoder.metrics[0]["blocks"]) == ["3-mer", "2-mer", "1-mer"]


def test_the_best_epoch_is_kept_and_warm_up_epochs_never(trained: tuple[Encoder, Path, list[str]]) -> None:
    encoder = trained[0]
    losses = [record["validation_loss"] for record in encoder.metrics]
    best = 2 + int(np.argmin(losses[2:])) + 1
    assert encoder.training["results"]["epoch"] == best
    assert not any(record["best"] for record in encoder.metrics[:2])


def test_validation_numbers_are_those_of_the_kept_weights(tmp_path: Path) -> None:
    """The stored encoder, run by hand over the validation rows, has the recorded error, KL and loss."""
    table = organisms(500)
    encoder = train(table, tmp_path / "e", settings=SMALL)
    from kinmer.training.data import split_rows

    rows = split_rows(500, 0.1, 0)[1]
    x = torch.from_numpy(encoder.clr(table.X[rows], encoder.layout))
    vae = encoder.network
    assert isinstance(vae, Vae)
    with torch.no_grad():
        mean, log_var = vae.encoder(x)
        draws = [vae(x, torch.randn(len(x), 8)) for _ in range(300)]
    sampled = torch.stack([vae_loss(draw, x, beta=0.05).mse for draw in draws])
    record = encoder.metrics[encoder.training["results"]["epoch"] - 1]
    kl = 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum(1).mean()
    assert record["validation_kl"] == pytest.approx(kl.item(), rel=1e-5)
    # The recorded error is one draw of the noise.
    assert abs(record["mse"] - sampled.mean().item()) < 5 * sampled.std().item()


def test_threads_are_given_back(tmp_path: Path) -> None:
    used: list[int] = []
    settings = replace(SMALL, epochs=1)
    train(organisms(50), tmp_path / "e", settings=settings, threads=2, log=lambda _: used.append(threads()))
    assert set(used) == {2}
    assert threads() == 1


def test_the_log_line(trained: tuple[Encoder, Path, list[str]]) -> None:
    encoder, _, lines = trained
    assert lines[0] == "810 rows for training, 90 for validation, in memory"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 12
    number = r"[\d.,e+-]+"
    mse = rf"MSE {number} \[3mer={number} 2mer={number} 1mer={number}\]"
    pattern = (
        rf"epoch \d+/12  recon {number}  KL {number} × {number}  val {number}"
        rf"  {mse}  lr {number}  {number} rows/s(  best)?"
    )
    assert all(re.fullmatch(pattern, line) for line in epochs)
    assert f"recon {encoder.metrics[3]['reconstruction']:.2f}" in epochs[3]


def test_the_folder_is_whole(trained: tuple[Encoder, Path, list[str]]) -> None:
    encoder, path, _ = trained
    assert {one.name for one in path.parent.iterdir()} == {"encoder"}
    assert (path / "training.png").read_bytes().startswith(b"\x89PNG")
    assert any((path / "tensorboard").iterdir())
    card = (path / "card.md").read_text()
    for fact in ("810 / 90", encoder.training["data"]["fingerprint"], "validation MSE, 3-mer", "`0.002`"):
        assert fact in card
    assert encoder.training["settings"]["epochs"] == 12


def test_tensorboard_has_every_epoch_once(trained: tuple[Encoder, Path, list[str]]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    encoder, path, _ = trained
    events = accumulator.EventAccumulator(str(path / "tensorboard")).Reload()
    losses = events.Scalars("validation_loss")
    assert [event.step for event in losses] == list(range(1, 13))
    assert losses[4].value == pytest.approx(encoder.metrics[4]["validation_loss"], rel=1e-6)
    assert "mse/3-mer" in events.Tags()["scalars"]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    table = organisms(300)
    one, two, other = (
        train(table, tmp_path / name, settings=replace(SMALL, epochs=2, seed=seed), threads=1)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert same_weights(one, two)
    assert without_time(one.metrics) == without_time(two.metrics)
    assert not same_weights(one, other)


def test_streaming_learns_the_same(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    table = organisms(900)
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        table.write_zarr(store, chunks=(32, table.n_vars))
    lines: list[str] = []
    settings = replace(SMALL, epochs=12)
    # The profiles take more than 79 kB.
    streamed = train(store, tmp_path / "s", settings=settings, memory=30_000, log=lines.append)
    held = train(store, tmp_path / "h", settings=settings)
    assert lines[0].endswith("streamed")
    ours, theirs = streamed.metrics[-1], held.metrics[-1]
    # Within what two seeds differ by.
    assert ours["mse"] == pytest.approx(theirs["mse"], rel=0.4)
    assert ours["validation_kl"] == pytest.approx(theirs["validation_kl"], rel=0.2)
    assert not same_weights(streamed, held)
    kinds = table.obs["kind"].to_numpy()
    assert neighbour_agreement(streamed.embed(table.X[::3]), kinds[::3]) > 0.95


def test_frequencies_train_too(tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=3)
    frequencies = train(organisms(300, values="frequencies"), tmp_path / "f", settings=settings)
    counts = train(organisms(300), tmp_path / "c", settings=settings)
    # Counts and frequencies differ by their rounding, which every step of the training makes larger.
    assert frequencies.metrics[-1]["mse"] == pytest.approx(counts.metrics[-1]["mse"], rel=5e-3)
    with pytest.raises(KinmerError, match="counts"):
        train(
            organisms(300, values="frequencies"),
            tmp_path / "n",
            settings=replace(settings, clr=Clr(pseudocount="counts")),
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "f"]


def test_constant_features_are_told_and_harm_nothing(tmp_path: Path) -> None:
    table = organisms(300)
    table.X[:, [0, 3, 40]] = 0
    lines: list[str] = []
    encoder = train(table, tmp_path / "e", settings=replace(SMALL, clr=REFERENCE_CLR), log=lines.append)
    assert "3 features have one value in all profiles" in lines
    assert encoder.training["data"]["constant"] == list(table.var_names[[0, 3, 40]])
    assert np.isfinite(encoder.embed(table.X)).all()
    assert encoder.metrics[-1]["mse"] < encoder.metrics[0]["mse"]
    assert f"3 ({', '.join(table.var_names[[0, 3, 40]])})" in encoder.card


def test_a_batch_of_more_rows_than_there_are(tmp_path: Path) -> None:
    lines: list[str] = []
    train(organisms(20), tmp_path / "e", settings=replace(SMALL, batch=1024), log=lines.append)
    assert "fewer rows than a batch: every step takes all 18" in lines


def test_bf16_learns_what_float32_learns(tmp_path: Path) -> None:
    table = organisms(600)
    exact = train(table, tmp_path / "a", settings=SMALL)
    rough = train(table, tmp_path / "b", settings=replace(SMALL, precision="bf16"))
    assert rough.metrics[-1]["mse"] == pytest.approx(exact.metrics[-1]["mse"], rel=0.05)
    assert not same_weights(exact, rough)


def test_the_learning_rate_falls_on_a_plateau_and_training_ends(tmp_path: Path) -> None:
    settings = replace(
        SMALL, epochs=60, learning_rate=1e-9, min_learning_rate=4e-10, plateau_patience=2, stop_patience=7
    )
    encoder = train(organisms(100), tmp_path / "e", settings=settings)
    results = encoder.training["results"]
    assert results["ended"] == "no better loss any more"
    assert len(encoder.metrics) == results["epochs"] < 60
    rates = [record["learning_rate"] for record in encoder.metrics]
    assert rates[0] == 1e-9
    assert rates[-1] == 4e-10
    assert set(rates) == {1e-9, 5e-10, 4e-10}


@pytest.mark.parametrize("rows", [1, 9])
def test_too_few_rows(rows: int, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"{rows} profiles are too few"):
        train(organisms(rows), tmp_path / "e", settings=SMALL)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"not a number in epoch \d+, by step \d+.*learning rate"
    ) as raised:
        train(organisms(300), tmp_path / "e", settings=replace(SMALL, learning_rate=1e18))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "e").exists()


def test_an_output_that_exists(tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=1)
    first = train(organisms(100), tmp_path / "e", settings=settings)
    with pytest.raises(UsageError, match="exists"):
        train(organisms(100), tmp_path / "e", settings=settings)
    second = train(organisms(100), tmp_path / "e", settings=replace(settings, seed=4), force=True)
    assert Encoder.load(tmp_path / "e").fingerprint == second.fingerprint != first.fingerprint
    with pytest.raises(UsageError, match="does not exist"):
        train(organisms(100), tmp_path / "no" / "e", settings=settings)
    with pytest.raises(UsageError, match="threads"):
        train(organisms(100), tmp_path / "t", settings=settings, threads=0)


# --- interrupted and killed -------------------------------------------------------------------------------

CHILD = """
import sys
from kinmer.training import TrainSettings, train
settings = TrainSettings.from_dict({settings!r})
train({source!r}, {output!r}, settings=settings, threads=1, memory={memory!r}, checkpoint_seconds={every!r},
      log=lambda line: print(line, flush=True))
"""


def child(
    source: Path, output: Path, settings: TrainSettings, *, memory: int | None = None, every: float = 0.0
) -> subprocess.Popen[str]:
    code = CHILD.format(
        settings=settings.to_dict(), source=str(source), output=str(output), memory=memory, every=every
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stored") / "a.zarr"
    table = organisms(600)
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        table.write_zarr(store, chunks=(32, table.n_vars))
    return store


@pytest.mark.parametrize("memory", [None, 20_000], ids=["held", "streamed"])
def test_killed_and_resumed_gives_the_weights_of_one_not_killed(
    memory: int | None, stored: Path, tmp_path: Path
) -> None:
    settings = replace(SMALL, epochs=40)
    whole = train(stored, tmp_path / "whole", settings=settings, memory=memory)
    output = tmp_path / "killed"
    for epochs in (3, 9):
        process = child(stored, output, settings, memory=memory)
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += line.startswith("epoch")
            if seen == epochs:
                break
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not output.exists()
        with pytest.raises(FormatError):
            Encoder.load(output)
    lines: list[str] = []
    resumed = train(stored, output, settings=settings, memory=memory, log=lines.append)
    assert re.fullmatch(r"resuming at epoch \d+, step \d+", lines[1])
    assert same_weights(resumed, whole)
    assert without_time(resumed.metrics) == without_time(whole.metrics)
    assert resumed.fingerprint == whole.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(stored: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=40)
    whole = train(stored, tmp_path / "whole", settings=settings)
    # No checkpoint comes of itself: the one that is there is the interrupt's.
    process = child(stored, tmp_path / "e", settings, every=1e9)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 4/"):
        pass
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert (tmp_path / ".e.training" / "state.json").is_file()
    lines: list[str] = []
    resumed = train(stored, tmp_path / "e", settings=settings, log=lines.append)
    assert int(lines[1].split("epoch ")[1].split(",")[0]) >= 5
    assert same_weights(resumed, whole)
    assert without_time(resumed.metrics) == without_time(whole.metrics)


def interrupted(source: Any, output: Path, settings: TrainSettings) -> None:
    """Leave an unfinished training behind."""

    def stop(line: str) -> None:
        if line.startswith("epoch 2/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(source, output, settings=settings, log=stop)


def test_an_unfinished_training_with_other_settings_or_data(tmp_path: Path) -> None:
    table, path = organisms(200), tmp_path / "e"
    handler = signal.getsignal(signal.SIGINT)
    interrupted(table, path, SMALL)
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(UsageError, match=r"settings\.beta, settings\.clr\.scope"):
        train(table, path, settings=replace(SMALL, beta=0.1, clr=Clr(scope="joint")))
    with pytest.raises(UsageError, match=r"data\.fingerprint, data\.rows"):
        train(organisms(201), path, settings=SMALL)
    afresh = train(organisms(201), path, settings=SMALL, force=True)
    assert same_weights(afresh, train(organisms(201), tmp_path / "f", settings=SMALL))


def test_a_checkpoint_of_kinmer_0_1_goes_on(tmp_path: Path) -> None:
    """It also has what a training on pairs of fragments needed."""
    table, path = organisms(200), tmp_path / "e"
    interrupted(table, path, SMALL)
    file = tmp_path / ".e.training" / "state.json"
    saved = json.loads(file.read_text())
    saved["signature"]["settings"] |= {"objective": "vae", "network": "vae", "lengths": [1_000, 100_000]}
    first, second, rows = saved["state"]["sums"]
    assert rows
    network = {"width": 44, "latent": 8, "hidden": [32, 16]}
    saved["state"] |= {"network": network, "best_retrieval": None, "start": None}
    saved["state"]["sums"] = [first, second, 0.0, rows]
    file.write_text(json.dumps(saved))
    resumed = train(table, path, settings=SMALL)
    whole = train(table, tmp_path / "whole", settings=SMALL)
    assert same_weights(resumed, whole)
    assert without_time(resumed.metrics) == without_time(whole.metrics)


@pytest.mark.parametrize("damage", ["state", "tensors", "missing", "version"])
def test_a_damaged_checkpoint_is_told_and_force_starts_afresh(damage: str, tmp_path: Path) -> None:
    table, path = organisms(200), tmp_path / "e"
    interrupted(table, path, SMALL)
    folder = tmp_path / ".e.training"
    tensors = next(folder.glob("run-*.safetensors"))
    if damage == "state":
        (folder / "state.json").write_text("{")
    elif damage == "version":
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**state, "format": 99}))
    elif damage == "tensors":
        data = bytearray(tensors.read_bytes())
        data[-1] ^= 255
        tensors.write_bytes(data)
    else:
        tensors.unlink()
    with pytest.raises(FormatError, match="--force"):
        train(table, path, settings=SMALL)
    afresh = train(table, path, settings=SMALL, force=True)
    assert same_weights(afresh, train(table, tmp_path / "f", settings=SMALL))


def test_two_trainings_of_one_encoder(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "e", {}).opened(), pytest.raises(UsageError, match="another process"):
        train(organisms(100), tmp_path / "e", settings=SMALL)
    train(organisms(100), tmp_path / "e", settings=replace(SMALL, epochs=1))


def test_the_checkpoint_written_last_counts(tmp_path: Path) -> None:
    """A kill between the tensors and the state file leaves the checkpoint before."""
    checkpoints = Checkpoints(tmp_path / "e", {"a": 1})
    with checkpoints.opened():
        assert checkpoints.load() is None
        checkpoints.save({"n": 1}, {"run": ("1", {"x": torch.ones(3)}), "best": ("0", {"y": torch.ones(1)})})
        (checkpoints.folder / "run-2.safetensors").write_bytes(b"half")
        found = checkpoints.load()
        assert found is not None
        assert found.state == {"n": 1}
        assert torch.equal(found.tensors["run"]["x"], torch.ones(3))
        checkpoints.save({"n": 2}, {"run": ("2", {"x": torch.zeros(3)}), "best": ("0", {})})
        found = checkpoints.load()
        assert found is not None
        assert not found.tensors["run"]["x"].any()
        # The set of the same version was not written again.
        assert torch.equal(found.tensors["best"]["y"], torch.ones(1))
        names = sorted(path.name for path in checkpoints.folder.iterdir())
        assert names == [".kinmer-lock", "best-0.safetensors", "run-2.safetensors", "state.json"]


# --- several processes ------------------------------------------------------------------------------------


def torchrun(stored: Path, output: Path, settings: TrainSettings, *, every: float) -> subprocess.Popen[str]:
    script = output.parent / f"{output.name}.py"
    script.write_text(
        CHILD.format(
            settings=settings.to_dict(), source=str(stored), output=str(output), memory=None, every=every
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
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_two_processes_train_one_encoder_and_resume(stored: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, epochs=30)
    process = torchrun(stored, tmp_path / "two", settings, every=1e9)
    told = process.communicate()[0]
    assert process.returncode == 0
    # One process speaks: every epoch is told once.
    assert len([line for line in told.splitlines() if line.startswith("epoch")]) == 30
    two = Encoder.load(tmp_path / "two")
    one = train(stored, tmp_path / "one", settings=settings)
    assert two.metrics[-1]["mse"] == pytest.approx(one.metrics[-1]["mse"], rel=0.1)
    assert two.training["processes"] == 2
    assert two.training["data"]["training_rows"] == 540

    process = torchrun(stored, tmp_path / "killed", settings, every=0.0)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 5/"):
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert not (tmp_path / "killed").exists()
    assert (tmp_path / ".killed.training" / "state.json").is_file()
    process = torchrun(stored, tmp_path / "killed", settings, every=1e9)
    told = process.communicate()[0]
    assert process.returncode == 0
    assert "resuming at epoch" in told
    assert same_weights(Encoder.load(tmp_path / "killed"), two)


# --- settings ---------------------------------------------------------------------------------------------


@given(
    latent=st.integers(1, 1000),
    hidden=st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    beta=st.floats(0, 10),
    batch=st.integers(2, 10_000),
    validation=st.floats(0.001, 0.999),
    scope=st.sampled_from(["block", "joint"]),
    epochs=st.integers(1, 1000),
)
def test_settings_survive_json(latent: int, hidden: list[int], epochs: int, scope: Any, **more: Any) -> None:
    settings = TrainSettings(
        latent=latent, hidden=tuple(hidden), epochs=epochs, clr=Clr(scope=scope, value=0.25), **more
    )
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert settings.warmup <= epochs / 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent": 0},
        {"latent": 1.5},
        {"hidden": ()},
        {"hidden": (8, 0)},
        {"beta": -1},
        {"beta": float("nan")},
        {"batch": 1},
        {"epochs": 0},
        {"learning_rate": 0},
        {"learning_rate": 1e-7},
        {"validation": 0},
        {"validation": 1},
        {"plateau_factor": 1},
        {"seed": -1},
        {"precision": "fp8"},
        {"embedding_precision": "auto"},
        {"compile": "yes"},
        {"weight_decay": -1},
        {"clr": "joint"},
    ],
    ids=str,
)
def test_settings_are_checked_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        TrainSettings(**wrong)


def test_presets() -> None:
    reference = PRESETS["original"]
    assert train_settings("reference") == train_settings("original") == reference
    assert (reference.latent, reference.beta, reference.batch, reference.epochs) == (384, 0.05, 1024, 500)
    assert (reference.learning_rate, reference.min_learning_rate) == (1e-4, 1e-6)
    assert reference.clr == REFERENCE_CLR
    default = train_settings()
    assert default.clr == Clr(scope="block", pseudocount="relative", value=0.5)
    assert replace(default, clr=REFERENCE_CLR, epochs=500) == reference
    assert train_settings("reference", beta=0.1).beta == 0.1
    assert repr(train_settings("default", beta=0.1)) == "TrainSettings(beta=0.1)"
    with pytest.raises(UsageError, match=r"presets: default, original$"):
        train_settings("best")
    with pytest.raises(UsageError, match="depth"):
        train_settings("default", depth=3)
    with pytest.raises(FormatError, match="depth"):
        TrainSettings.from_dict({"depth": 3})


def test_the_documented_table_of_settings_is_the_current_one() -> None:
    page = Path(__file__).parent.parent / "docs" / "commands.md"
    assert settings_table() in page.read_text(encoding="utf-8"), (
        "kinmer train --list-settings prints the table"
    )


def test_every_former_option_sets_what_it_set(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"--clr": "joint", "--pseudocount": "counts", "--compile": None, "--hidden": "8,4"}
    values |= {"--precision": "fp32", "--embedding-precision": "bf16"}
    argv = []
    for option in OLD_OPTIONS:
        value = values.get(option, "0.5" if parse_kind(option) is float else "3")
        argv += [option] if value is None else [option, value]
    read = _without_old_options([*argv, "--epochs", "5"])
    assert read[-2:] == ["--epochs", "5"]
    assert read[:-2:2] == ["--set"] * len(OLD_OPTIONS)
    settings = train_settings(**dict(one.split("=") for one in read[1:-2:2]))
    assert (settings.hidden, settings.clr.scope, settings.clr.pseudocount) == ((8, 4), "joint", "counts")
    assert (settings.warmup_epochs, settings.stop_patience, settings.compile) == (3, 3, True)
    assert len(capsys.readouterr().err.splitlines()) == len(OLD_OPTIONS)
    assert _without_old_options(["--no-compile", "--beta=0.1"]) == [
        "--set",
        "compile=false",
        "--set",
        "beta=0.1",
    ]


def parse_kind(option: str) -> type:
    """The type of a former option's setting."""
    return float if isinstance(flat(TrainSettings().to_dict())[OLD_OPTIONS[option]], float) else int
