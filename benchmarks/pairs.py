"""Training on pairs of fragments against the network's own speed: does counting hide behind the steps?

For every network, with and without reading frames, turns of a few seconds each: steps on one ready batch (the
network's own speed, transform included), and steps on batches that are drawn and counted meanwhile, for
several `reuse`. Medians of the turns, and their ratio to the ready batch's turns of the same round; the same
per CPU-second, which other load on the machine disturbs less: what all cores together have to do.

    KINMER_GENOMES=… python benchmarks/pairs.py [--threads 2] [--rounds 3] [--seconds 4] [--reuse 1,2,4,8]

Without KINMER_GENOMES simulated genomes are used.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

# As the command line does: threads that wait do not spin, which costs dearly where another one counts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from kinmer.fragments.packed import PackedSequences
from kinmer.fragments.pairs import Views, ViewSettings
from kinmer.layout import Layout, profile_layout
from kinmer.networks import Linear, Network, Residual
from kinmer.simulate import Community, write_community
from kinmer.training.data import Batch, ahead, new_vae
from kinmer.training.directions import optional_spans
from kinmer.training.settings import TrainSettings
from kinmer.training.trainer import Processes, Trainer, resolved_precision

NETWORKS = ("linear", "residual", "vae")


def sequences(folder: Path, limit: int | None) -> PackedSequences:
    """Real genomes where there are any, else simulated ones."""
    real = os.environ.get("KINMER_GENOMES")
    if real:
        files = sorted(Path(real).glob("*.fna.gz"))[: limit or None]
        return PackedSequences.read(files, Path(real) / "genomes.tsv")
    community = Community(phyla=8, families=3, genera=3, species=3, chromosome=300_000)
    write_community(folder / "c", community=community)
    return PackedSequences.read(sorted((folder / "c" / "genomes").iterdir()), folder / "c" / "taxonomy.tsv")


def network_of(name: str, layout: Layout, settings: TrainSettings) -> Network:
    """A network with weights that cost what trained ones do."""
    if name == "vae":
        return new_vae(settings, layout)
    spans = optional_spans(layout)
    linear: Linear | Residual = Linear(width=layout.width, dim=settings.latent, optional=spans)
    if name == "residual":
        linear = Residual(width=layout.width, dim=settings.latent, optional=spans, hidden=(1024,))
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(settings.latent, layout.width, generator=random) / 50
    return linear.fill(torch.zeros(layout.width), weight)


class Turns:
    """One network that is trained in turns, on ready batches or on fresh ones."""

    def __init__(self, name: str, layout: Layout, batch: int, device: str) -> None:
        vae = name == "vae"
        settings = TrainSettings(
            objective="both" if vae else "pairs",
            network=name,  # type: ignore[arg-type]
            latent=384 if vae else 256,
            batch=batch,
        )
        where = torch.device(device)
        self.trainer = Trainer(
            settings,
            layout,
            "counts",
            precision=resolved_precision("auto", where),
            device=where,
            processes=Processes(),
            network=network_of(name, layout, settings),
        )
        self.steps = 0

    def speed(self, batches: Iterator[Batch], seconds: float) -> tuple[float, float]:
        """Train for some seconds; pairs per second and per CPU-second."""
        pairs, began, used = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            batch = next(batches)
            self.trainer.step(batch, epoch=0, number=self.steps, beta=0.05, learning_rate=1e-5)
            self.steps += 1
            pairs += len(batch.profiles) // 2
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        return pairs / (time.perf_counter() - began), pairs / (time.process_time() - used)


def fresh(views: Views) -> Iterator[Batch]:
    """Batches without end."""
    for step in itertools.count():
        drawn = views.batch(step)
        yield Batch(drawn.counts, drawn.kin)


def measure(
    name: str, packed: PackedSequences, layout: Layout, given: argparse.Namespace
) -> Iterator[tuple[str, float, float, float, float]]:
    """What is measured, pairs a second and their ratio to the ready batch's, and the same per CPU-second."""
    turns = Turns(name, layout, given.batch, given.device)
    reuses = [int(one) for one in given.reuse.split(",")]
    views = {
        reuse: Views(
            packed, layout, ViewSettings(pairs=given.batch // 2, reuse=reuse), threads=given.counters
        )
        for reuse in reuses
    }
    first = next(fresh(views[reuses[-1]]))
    for _ in range(3):
        turns.trainer.step(first, epoch=0, number=0, beta=0.05, learning_rate=1e-5)
    speeds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(given.rounds):
        speeds.setdefault("ready batch", []).append(turns.speed(itertools.repeat(first), given.seconds))
        for reuse in reuses:
            batches = ahead(fresh(views[reuse]))  # type: ignore[arg-type]
            next(batches)
            speeds.setdefault(f"reuse {reuse}", []).append(turns.speed(batches, given.seconds))
    alone = speeds["ready batch"]
    for what, found in speeds.items():
        wall, cpu = (median(one[i] for one in found) for i in range(2))
        ratios = [median(one[i] / own[i] for one, own in zip(found, alone, strict=True)) for i in range(2)]
        yield what, wall, ratios[0], cpu, ratios[1]


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch")
    parser.add_argument("--counters", type=int, default=1, help="threads that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=1024, help="rows of a step")
    parser.add_argument("--reuse", default="1,2,4,8")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--files", type=int, help="genomes at most")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        packed = sequences(Path(folder), given.files)
    held = (packed.packed.nbytes + packed.spans.nbytes) / 1e6
    print(
        f"{packed.lengths.sum() / 1e6:,.0f} Mbp, {len(packed.groups):,} groups, packed in {held:,.0f} MB; "
        f"PyTorch {torch.__version__}, {given.threads} threads, {given.device}, batch {given.batch}, "
        f"load before {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{'network':<10}{'layout':<12}{'batches':<14}"
        f"{'pairs/s':>10}{'ratio':>8}{'per CPU-s':>12}{'ratio':>8}"
    )
    for name in given.networks.split(","):
        for coding in (False, True):
            layout = profile_layout(coding=coding)
            for what, *numbers in measure(name, packed, layout, given):
                frames = "with frames" if coding else "k-mers"
                wall, ratio, cpu, share = numbers
                cells = f"{wall:>10,.0f}{ratio:>8.2f}{cpu:>12,.0f}{share:>8.2f}"
                print(f"{name:<10}{frames:<12}{what:<14}{cells}", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


if __name__ == "__main__":
    main()
