"""Training on fragments of sequences: pairs counted beside the steps, held-out species, a linear start."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinmer.errors import TrainingError
from kinmer.fragments.packed import Fragments, PackedSequences
from kinmer.fragments.pairs import Views, ViewSettings, count_fragments, sample_fragments
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout
from kinmer.networks import Linear, Network, Residual
from kinmer.training.data import Batch, ahead, new_vae
from kinmer.training.directions import (
    LEAST_FRAGMENTS,
    Directions,
    Sample,
    column_weights,
    fit_discriminant,
    fit_principal,
    genome_weights,
)
from kinmer.training.losses import pair_loss
from kinmer.training.settings import TrainSettings

# Letters of the short fragments, and how many of each a group has; its long ones, and their least length.
SHORT, SHORT_EACH = (1_000, 2_000, 5_000, 10_000), 2
LONG_EACH, LONG = 4, 20_000
# Components of kin held out at least, where twice as many are there; groups asked about at most, and
# groups of training beside them at least: among few, any encoder finds the right one.
LEAST_KIN, MOST_GROUPS, LEAST_OTHERS = 8, 256, 128
# Streams of random numbers that never meet, all drawn from one seed.
_SPLIT, _PROBE, _OTHERS = 11, 12, 13
ROWS = 1024


def split_kin(
    packed: PackedSequences, validation: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Groups for training and for validation, ascending: whole components of kin, viruses and others apart.

    That share of the components is held out, at least eight where twice as many are there.
    """
    rng = np.random.default_rng([seed, _SPLIT])
    groups = packed.groups
    held: list[NDArray[np.int64]] = []
    total = len(np.unique(groups.kin))
    least = min(LEAST_KIN, total // 2)
    for viruses in (False, True):
        kinds = np.unique(groups.kin[groups.virus == viruses])
        share = max(validation, least / total)
        held.append(rng.permutation(kinds)[: round(len(kinds) * share)])
    out = np.isin(groups.kin, np.concatenate(held))
    return np.flatnonzero(~out), np.flatnonzero(out)


@dataclass(frozen=True)
class Probe:
    """Fragments that ask, fragments that answer.

    short, long : profiles (s, width), (l, width) float32. short_kin, long_kin : (s,), (l,) int64.
    pairs : (r, m) rows of `short` and of `long` each, (2, r, m) together: r batches of pairs, one of every
        group, for the pair loss. weights : (s,) what every question counts, together 1.
    """

    short: NDArray[np.float32]
    long: NDArray[np.float32]
    short_kin: NDArray[np.int64]
    long_kin: NDArray[np.int64]
    pairs: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Profiles of both kinds."""
        return len(self.short) + len(self.long)

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """All profiles, some rows at a time: the short ones, then the long ones."""
        for part in (self.short, self.long):
            for start in range(0, len(part), ROWS):
                yield part[start : start + ROWS]

    def measure(self, vectors: torch.Tensor, temperature: float) -> tuple[float, float]:
        """Pair loss and retrieval of the vectors of all `batches`, (rows, dim) float32.

        Retrieval: share of short fragments whose nearest long one by cosine is of their kin.
        """
        short, long = vectors[: len(self.short)], vectors[len(self.short) :]
        nearest = _unit(short) @ _unit(long).T
        right = self.long_kin[nearest.argmax(dim=1).cpu().numpy()] == self.short_kin
        kin = torch.from_numpy(self.short_kin[self.pairs[0]]).to(vectors.device)
        ones, others = (torch.from_numpy(rows).to(vectors.device) for rows in self.pairs)
        losses = [
            pair_loss(short[a], long[b], same, temperature=temperature)
            for a, b, same in zip(ones, others, kin, strict=True)
        ]
        loss = float(torch.stack(losses).mean()) if losses else 0.0
        return loss, float(self.weights @ right)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def draw_probe(
    packed: PackedSequences,
    counter: KmerCounter,
    asked: NDArray[np.int64],
    others: NDArray[np.int64],
    *,
    lengths: tuple[int, int],
    virus_share: float | None,
    seed: int,
) -> Probe | None:
    """Short and long fragments of `asked` groups, and long ones of `others`; None where none is cut.

    Short ones lie in the second half of a sequence and long ones in the first: none holds another. Sequences
    of fewer than two shortest fragments are passed over, and groups of such.
    """
    able = np.unique(packed.group[packed.lengths >= 2 * lengths[0]])
    asked = _some(np.intersect1d(asked, able), MOST_GROUPS, seed)
    others = _some(np.intersect1d(others, able), max(len(asked), LEAST_OTHERS), seed)
    if not len(asked):
        return None
    draws = _Halves(packed, lengths, seed)
    short = Fragments.joined([draws.short(group) for group in asked.tolist()])
    long = Fragments.joined([draws.long(group) for group in (*asked.tolist(), *others.tolist())])
    kin, count = packed.groups.kin, len(SHORT) * SHORT_EACH
    rows = np.arange(len(asked))
    # A group's fragments are of all lengths, the shortest first: every batch has one of each group.
    shorts = rows * count + np.arange(0, count, SHORT_EACH)[:, None]
    longs = rows * LONG_EACH + np.arange(LONG_EACH)[:, None]
    weight = np.ones(len(asked))
    virus = packed.groups.virus[asked]
    if virus_share is not None and 0 < virus.sum() < len(asked):
        weight = np.where(virus, virus_share / virus.sum(), (1 - virus_share) / (~virus).sum())
    return Probe(
        count_fragments(packed, counter, short).astype(np.float32),
        count_fragments(packed, counter, long).astype(np.float32),
        np.repeat(kin[asked], count),
        np.repeat(kin[np.concatenate([asked, others])], LONG_EACH),
        np.stack([shorts, longs]),
        np.repeat(weight / weight.sum() / count, count),
    )


def _some(groups: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    chosen = np.random.default_rng([seed, _OTHERS]).permutation(groups)[:most]
    return np.sort(chosen)


class _Halves:
    """Draws fragments of a group from the halves of its sequences; the same for a seed and a group."""

    def __init__(self, packed: PackedSequences, lengths: tuple[int, int], seed: int) -> None:
        self._packed, self._lengths, self._seed = packed, lengths, seed
        self._order = np.argsort(packed.group, kind="stable")
        self._sorted = packed.group[self._order]

    def short(self, group: int) -> Fragments:
        """Fragments of the second halves, of the lengths in `SHORT`."""
        return self._drawn(group, np.repeat(np.array(SHORT), SHORT_EACH), second=True)

    def long(self, group: int) -> Fragments:
        """Fragments of the first halves, log-uniform from 20 kb on where there is so much."""
        low, high = min(LONG, self._lengths[1]), self._lengths[1]
        random = np.random.default_rng([self._seed, _PROBE, group, 2]).random(LONG_EACH)
        return self._drawn(group, (low * (high / low) ** random).astype(np.int64), second=False)

    def _drawn(self, group: int, sizes: NDArray[np.int64], *, second: bool) -> Fragments:
        rng = np.random.default_rng([self._seed, _PROBE, group, second])
        members = self._order[
            np.searchsorted(self._sorted, group) : np.searchsorted(self._sorted, group, side="right")
        ]
        members = members[self._packed.lengths[members] >= 2 * self._lengths[0]]
        lengths = self._packed.lengths[members]
        chosen = rng.choice(len(members), len(sizes), p=lengths / lengths.sum())
        half = lengths[chosen] // 2
        sizes = np.minimum(np.clip(sizes, *self._lengths), half)
        begins = (rng.random(len(sizes)) * (half - sizes + 1)).astype(np.int64)
        first = lengths[chosen] - half if second else 0
        return Fragments(members[chosen], begins + first, sizes, rng.random(len(sizes)) < 0.5)


# Fragments of every group that a linear network's start is fitted on.
START_FRAGMENTS = 100


class FragmentData:
    """Pairs of fragments of packed sequences; some species are held out for validation.

    threads : that count, beside those of PyTorch.
    """

    values = "counts"

    def __init__(
        self, packed: PackedSequences, layout: Layout, settings: TrainSettings, *, threads: int = 1
    ) -> None:
        self._packed, self.layout, self._settings, self._threads = packed, layout, settings, threads
        self._train, self._held_out = split_kin(packed, settings.validation, settings.seed)
        self.rows = len(packed)

    def signature(self) -> dict[str, Any]:
        """Fingerprints of sequences, labels and layout, and their numbers."""
        return {
            "fingerprint": self._packed.fingerprint,
            "rows": self.rows,
            "values": self.values,
            "layout_fingerprint": self.layout.fingerprint,
            "genetic_code": self.layout.genetic_code,
        }

    def plan(self, memory: int | None, world: int = 1) -> dict[str, int | None]:
        """Nothing to choose: packed sequences and the fragments in use are held."""
        return {}

    def load(self, plan: dict[str, int | None], rank: int = 0, world: int = 1) -> None:
        """Draw the fragments for validation, and make ready for the pairs of this process."""
        settings = self._settings
        counter = KmerCounter(self.layout, self._threads)
        self.probe: Probe | None = draw_probe(
            self._packed,
            counter,
            self._held_out,
            self._train,
            lengths=settings.lengths,
            virus_share=settings.virus_share,
            seed=settings.seed,
        )
        if self.probe is None:
            raise TrainingError(
                "no held-out sequence gives two fragments",
                "it is by them that the best epoch is chosen",
                f"are sequences of {2 * settings.lengths[0]:,} bases there? else set shorter lengths",
            )
        self._views = Views(
            self._packed,
            self.layout,
            ViewSettings(
                pairs=max(2, settings.batch // 2 // world),
                lengths=settings.lengths,
                reuse=settings.reuse,
                hard=settings.hard,
                virus_share=settings.virus_share,
                seed=settings.seed + (rank << 32),
            ),
            groups=self._train,
            threads=self._threads,
        )
        self._world = world

    def network(self) -> Network:
        """A VAE with random weights, or a linear or residual network at the discriminant solution."""
        settings = self._settings
        if settings.network == "vae":
            return new_vae(settings, self.layout)
        layout, threads = self.layout, self._threads
        start = linear_start(self._packed, layout, settings, groups=self._train, threads=threads)
        shape = start.shape(layout, settings.anchor)
        network: Linear | Residual = Linear(**shape)
        if settings.network == "residual":
            network = Residual(**shape, hidden=settings.hidden, dropout=settings.dropout, seed=settings.seed)
        return network.fill(torch.from_numpy(start.mean), torch.from_numpy(start.weight))

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(1, self._settings.epoch_pairs // (self._views.pairs * self._world))

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches but the first `skip`, counted ahead by a background thread."""
        steps = self.steps
        yield from ahead(self._batches(epoch * steps + skip, (epoch + 1) * steps))

    def _batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        for drawn in self._views.batches(start, stop):
            yield Batch(drawn.counts, drawn.kin)

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """The probe's fragments."""
        return self.probe.batches() if self.probe is not None else iter(())

    def notes(self) -> list[str]:
        """Numbers of groups, and what is odd about them."""
        packed, pairs = self._packed, self._views.pairs
        notes = [
            f"{len(packed):,} sequences ({packed.lengths.sum() / 1e6:,.1f} Mbp), {len(self._train):,} "
            f"groups for training, {len(self._held_out):,} for validation, {pairs:,} pairs a step, "
            f"{self.steps:,} steps an epoch"
        ]
        if pairs < self._settings.batch // 2 // self._world:
            notes.append(f"too few groups for more than {pairs:,} pairs a step")
        for number, what in ((packed.left_out, "left out"), (packed.unlabelled, "without labels")):
            if number:
                notes.append(f"{number:,} sequences {what}")
        return notes

    def report(self) -> dict[str, Any]:
        """Layout, groups, bases."""
        held = self._packed.groups
        return {
            "layout": ", ".join(block.name for block in self.layout.blocks),
            "letters": int(self._packed.lengths.sum()),
            "training_groups": len(self._train),
            "validation_groups": len(self._held_out),
            "viruses": int(held.virus.sum()),
            "kin": len(np.unique(held.kin)),
            "left_out": self._packed.left_out,
            "pairs_of_a_step": self._views.pairs * self._world,
        }


def linear_start(
    packed: PackedSequences,
    layout: Layout,
    settings: TrainSettings,
    *,
    groups: NDArray[np.int64],
    threads: int = 1,
) -> Directions:
    """The discriminant directions of `groups`, principal components where these are too few for any."""
    blocks = sample_fragments(
        packed,
        layout,
        per_group=START_FRAGMENTS,
        lengths=settings.lengths,
        seed=settings.seed,
        groups=groups,
        threads=threads,
    )
    shares = None if settings.virus_share is None else {"virus": settings.virus_share}
    weight = genome_weights(packed.groups.kind, shares, groups)
    sample = Sample(
        ((counts, which) for counts, which, _ in blocks),
        layout,
        settings.clr,
        columns=column_weights(layout),
        group_weight=weight[: groups.max() + 1],
    )
    dim = max(1, settings.latent - (settings.anchor > 0))
    if (sample.sizes >= LEAST_FRAGMENTS).sum() > 2:
        return fit_discriminant(sample, dim)
    return fit_principal(sample, dim)
