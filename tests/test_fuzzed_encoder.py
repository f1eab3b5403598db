"""Damaged files of an encoder: an error, or the same encoder; its times tell nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinmer.encoder import Encoder
from kinmer.errors import KinmerError
from tests.fuzz_worker import DAMAGES
from tests.organisms import encoder_of, organisms

COUNTS = np.asarray(organisms(6).X)
DAMAGED = {name: change for name, change in DAMAGES.items() if change is not None}


def answers(folder: Path) -> list[Any]:
    """All that an encoder is asked for."""
    encoder = Encoder.load(folder)
    return [
        encoder.embed(COUNTS).tolist(),
        encoder.fingerprint,
        encoder.training,
        encoder.metrics,
        encoder.card,
        encoder.versions,
    ]


def damage(base: Path, copy: Path, number: int) -> None:
    """Make `copy` the encoder at `base` with a file damaged, its times as they were."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(base, copy)
    rng = np.random.default_rng(number)
    files = sorted(path for path in copy.iterdir() if path.is_file())
    path = files[number % len(files)]
    before, data = path.stat(), bytearray(path.read_bytes())
    list(DAMAGED.values())[number // len(files) % len(DAMAGED)](data, rng)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("count", [120, pytest.param(1500, marks=pytest.mark.slow)])
def test_damage_is_an_error_or_changes_nothing(count: int, tmp_path: Path) -> None:
    base, copy = tmp_path / "base", tmp_path / "copy"
    encoder = encoder_of()
    metrics, card = [{"epoch": 1, "loss": 2.5}], "# Card\n\nMade for a test.\n"
    Encoder(
        encoder.network,
        encoder.layout,
        encoder.clr,
        training={"name": "", "seed": 7},
        metrics=metrics,
        card=card,
    ).save(base)
    right, refused = answers(base), 0
    for number in range(count):
        damage(base, copy, number)
        try:
            came = answers(copy)
        except KinmerError:
            refused += 1
        else:
            assert came == right, number
    assert refused > count // 2


def test_an_encoder_without_checksums_opens(tmp_path: Path) -> None:
    """As kinmer 0.1.0 wrote it."""
    encoder_of().save(tmp_path / "old")
    config = json.loads((tmp_path / "old/config.json").read_text())
    del config["crc"], config["files"]
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    assert Encoder.load(tmp_path / "old").fingerprint == encoder_of().fingerprint
