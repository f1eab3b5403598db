"""Training and embedding speed of the reference network, against the same network in Keras 3 on JAX.

Two worker processes, pinned to the same cores, take turns of a few seconds; the table gives medians of the
turns and their ratios. kinmer's turns start from raw counts (gathering rows, transforming and, in training,
drawing noise included) and use its own `Batches`, `Trainer` and `Encoder`; Keras is given transformed rows.

    python benchmarks/training.py [--cores 0,1] [--turns 5] [--keras-python PYTHON]

`--keras-python` is the interpreter of an environment with keras and jax, where they are not in this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

WIDTH, LATENT, BATCH, BETA = 2772, 384, 1024, 0.05
ROWS = 16 * BATCH


def counts() -> np.ndarray:
    """(ROWS, WIDTH) counts like those of 30 kb sequences."""
    rng = np.random.default_rng(0)
    sizes = (2080, 512, 136, 32, 10, 2)
    kinds = np.concatenate([rng.dirichlet(np.full(size, 2.0), 50) for size in sizes], axis=1)
    return rng.poisson(kinds[rng.integers(0, 50, ROWS)] * 30_000).astype(np.uint32)


class KinmerWorker:
    """kinmer's own rooms, as `kinmer train` and `kinmer embed` use them."""

    def __init__(self, precision: str, compiled: bool) -> None:
        import pandas as pd
        import torch
        from anndata import AnnData

        from kinmer.encoder import Encoder
        from kinmer.layout import kmer_layout
        from kinmer.profiles import AnnDataProfiles
        from kinmer.training.data import Batches, HeldRows, RowOrder, survey
        from kinmer.training.settings import TrainSettings
        from kinmer.training.trainer import Processes, Trainer

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        layout, self.rows = kmer_layout(), counts()
        settings = TrainSettings(latent=LATENT, batch=BATCH, beta=BETA, compile=compiled)
        table = AnnData(self.rows, var=pd.DataFrame(index=list(layout.features)))
        profiles = AnnDataProfiles(table)
        held = HeldRows(profiles, np.arange(ROWS), survey(profiles).dtypes)
        order = RowOrder(rows=np.arange(ROWS), batch=BATCH, seed=0)
        self.batches = Batches(order, profiles, held)
        self.trainer = Trainer(
            settings,
            layout,
            "counts",
            precision=precision,
            device=torch.device("cpu"),
            processes=Processes(),
        )
        self.encoder = Encoder(self.trainer.network, layout, settings.clr, precision=precision)  # type: ignore[arg-type]
        self.epoch = 0

    def train(self) -> None:
        """One pass over the rows."""
        self.trainer.network.requires_grad_(True)
        for number, rows in enumerate(self.batches.epoch(self.epoch)):
            self.trainer.step(rows, epoch=self.epoch, number=number, beta=BETA, learning_rate=1e-4)
        self.epoch += 1

    def embed(self) -> None:
        """Vectors of all rows."""
        self.trainer.network.eval()
        self.encoder.embed(self.rows)

    @staticmethod
    def versions() -> str:
        """Versions of what is measured."""
        import torch

        return f"PyTorch {torch.__version__}"


class KerasWorker:
    """The same network, loss and optimiser in Keras, jitted by JAX; rows are transformed beforehand."""

    def __init__(self) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        import keras  # type: ignore[import-not-found]
        from keras import layers, ops

        frequencies = counts().astype(np.float32)
        start = 0
        for size in (2080, 512, 136, 32, 10, 2):
            part = frequencies[:, start : start + size]
            part /= part.sum(axis=1, keepdims=True)
            np.log(part + 0.5 / size, out=part)
            part -= part.mean(axis=1, keepdims=True)
            start += size
        self.rows = frequencies

        def stack(sizes: list[int]) -> list[Any]:
            return [
                layer
                for size in sizes
                for layer in (layers.Dense(size), layers.BatchNormalization(), layers.LeakyReLU(0.2))
            ]

        class Sample(layers.Layer):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.seeds = keras.random.SeedGenerator(0)

            def call(self, mean: Any, log_var: Any) -> Any:
                kl = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=1)
                self.add_loss(BETA * ops.mean(kl))
                return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=self.seeds)

        x = keras.Input((WIDTH,))
        h = keras.Sequential(stack([1024, 512]))(x)
        mean = layers.Dense(LATENT)(h)
        log_var = ops.clip(layers.Dense(LATENT)(h), -20, 2)
        z = Sample()(mean, log_var)
        out = keras.Sequential([*stack([512, 1024]), layers.Dense(WIDTH)])(z)
        self.vae, self.encoder = keras.Model(x, out), keras.Model(x, mean)

        def reconstruction(rows: Any, given: Any) -> Any:
            return WIDTH * ops.mean(ops.square(rows - given))

        self.vae.compile(keras.optimizers.Adam(1e-4), loss=reconstruction, jit_compile=True)
        self.encoder.compile(jit_compile=True)

    def train(self) -> None:
        """One pass over the rows."""
        self.vae.fit(self.rows, self.rows, batch_size=BATCH, epochs=1, verbose=0)

    def embed(self) -> None:
        """Vectors of all rows."""
        self.encoder.predict(self.rows, batch_size=BATCH, verbose=0)

    @staticmethod
    def versions() -> str:
        """Versions of what is measured."""
        import jax  # type: ignore[import-not-found]
        import keras

        return f"Keras {keras.__version__}, JAX {jax.__version__}"


WORKERS: dict[str, Callable[[], Any]] = {
    "keras": KerasWorker,
    "kinmer fp32": lambda: KinmerWorker("fp32", False),
    "kinmer bf16": lambda: KinmerWorker("bf16", False),
    "kinmer bf16 compiled": lambda: KinmerWorker("bf16", True),
}


def work(name: str) -> None:
    """Answer every line on stdin (train, embed) with the seconds it took."""
    worker = WORKERS[name]()
    print(json.dumps(worker.versions()), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        getattr(worker, line.strip())()
        print(json.dumps(time.perf_counter() - began), flush=True)


class Remote:
    """A worker process on the given cores."""

    def __init__(self, name: str, python: str, cores: list[int]) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.versions = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker {self.process.args!r} ended")
        return json.loads(line)

    def seconds(self, task: str) -> float:
        """Seconds of one turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{task}\n")
        self.process.stdin.flush()
        return float(self._answer())


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", default="0,1", help="cores that both are pinned to")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--keras-python", default=sys.executable)
    parser.add_argument("--compiled", action="store_true", help="also the compiled step")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        return
    cores = [int(core) for core in given.cores.split(",")]
    names = [name for name in WORKERS if given.compiled or "compiled" not in name]
    remotes = {
        name: Remote(name, given.keras_python if name == "keras" else sys.executable, cores) for name in names
    }
    print(", ".join(dict.fromkeys(remote.versions for remote in remotes.values())))
    load = os.getloadavg()[0]
    print(f"{len(cores)} core(s), batch {BATCH}, latent {LATENT}, load of the machine before: {load:.2f}\n")
    print(f"{'':<24}{'train rows/s':>14}{'ratio':>8}{'embed rows/s':>16}{'ratio':>8}")
    taken: dict[tuple[str, str], list[float]] = {}
    for turn in range(given.turns + 1):
        for task in ("train", "embed"):
            for name, remote in remotes.items():
                seconds = remote.seconds(task)
                if turn:  # The first turn compiles.
                    taken.setdefault((name, task), []).append(seconds)
    for name in names:
        cells = []
        for task in ("train", "embed"):
            ours, theirs = taken[name, task], taken["keras", task]
            # Of turns that followed each other, because other load on the machine changes meanwhile.
            ratio = median(other / own for own, other in zip(ours, theirs, strict=True))
            cells.append(f"{ROWS / median(ours):>14,.0f}{ratio:>8.2f}")
        print(f"{name:<24}{'  '.join(cells)}")
    for remote in remotes.values():
        remote.process.terminate()


if __name__ == "__main__":
    main()
