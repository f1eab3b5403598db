"""Training on fragments of sequences: pairs drawn and counted beside the steps, held-out species, a start."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinmer.errors import TrainingError
from kinmer.fragments.packed import PackedSequences
from kinmer.fragments.pairs import Views, ViewSettings, sample_fragments
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout
from kinmer.networks import Linear, Network, Residual
from kinmer.training.batches import ahead
from kinmer.training.data import Batch, new_vae
from kinmer.training.linear import (
    LEAST_FRAGMENTS,
    Directions,
    Sample,
    column_weights,
    fit_discriminant,
    fit_principal,
    optional_spans,
)
from kinmer.training.probe import Probe, draw_probe, split_kin
from kinmer.training.processes import Processes
from kinmer.training.settings import TrainSettings

__all__ = ["FragmentData", "linear_start"]

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

    def plan(self, memory: int | None, processes: Processes) -> dict[str, int | None]:
        """Nothing to choose: packed sequences and the fragments in use are held."""
        return {}

    def load(self, plan: dict[str, int | None], processes: Processes) -> None:
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
                f"are sequences of {2 * settings.lengths[0]:,} letters there? else use a shorter --lengths",
            )
        self._views = Views(
            self._packed,
            self.layout,
            ViewSettings(
                pairs=max(2, settings.batch // 2 // processes.world),
                lengths=settings.lengths,
                reuse=settings.reuse,
                hard=settings.hard,
                virus_share=settings.virus_share,
                seed=settings.seed + (processes.rank << 32),
            ),
            groups=self._train,
            threads=self._threads,
        )
        self._world = processes.world

    def network(self) -> Network:
        """A VAE with random weights, or a linear or residual network at the discriminant solution."""
        settings = self._settings
        if settings.network == "vae":
            return new_vae(settings, self.layout)
        layout, threads = self.layout, self._threads
        found = linear_start(self._packed, layout, settings, groups=self._train, threads=threads)
        anchor = settings.anchor * found.length
        dim = len(found.weight) + (anchor > 0)
        spans = optional_spans(layout)
        shape: dict[str, Any] = {"width": layout.width, "dim": dim, "optional": spans, "anchor": anchor}
        network: Linear | Residual = Linear(**shape)
        if settings.network == "residual":
            network = Residual(**shape, hidden=settings.hidden, dropout=settings.dropout, seed=settings.seed)
        return network.fill(torch.from_numpy(found.mean), torch.from_numpy(found.weight))

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(1, self._settings.epoch_pairs // (self._views.pairs * self._world))

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches but the first `skip`, counted ahead by a background thread."""
        steps = self.steps
        with ahead(self._batches(epoch * steps + skip, (epoch + 1) * steps)) as made:
            yield from made

    def _batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        for drawn in self._views.batches(start, stop):
            yield Batch(drawn.counts, drawn.kin)

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """The probe's fragments."""
        return self.probe.batches() if self.probe is not None else iter(())

    def notes(self) -> list[str]:
        """Numbers of groups, and what is odd about them."""
        packed, pairs = self._packed, self._views.pairs
        found = [
            f"{len(packed):,} sequences ({packed.lengths.sum() / 1e6:,.1f} Mbp), {len(self._train):,} "
            f"groups for training, {len(self._held_out):,} for validation, {pairs:,} pairs a step, "
            f"{self.steps:,} steps an epoch"
        ]
        if pairs < self._settings.batch // 2 // self._world:
            found.append(f"too few groups for more than {pairs:,} pairs a step")
        for number, what in ((packed.left_out, "left out"), (packed.unlabelled, "without labels")):
            if number:
                found.append(f"{number:,} sequences {what}")
        return found

    def account(self) -> dict[str, Any]:
        """Layout, groups, letters."""
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
    virus = packed.groups.virus
    share = virus[groups].mean() if settings.virus_share is None else settings.virus_share
    weight = np.where(
        virus, share / max(1, virus[groups].sum()), (1 - share) / max(1, (~virus[groups]).sum())
    )
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
