"""Canonical k-mers counted in plain Python: the oracle of the counter."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from kinmer.layout import Layout, reverse_complement


def brute_force(sequence: str, layout: Layout) -> NDArray[np.uint32]:
    """Canonical counts of a sequence, window by window."""
    letters = sequence.upper().replace("U", "T")
    counts = np.zeros(layout.width, dtype=np.uint32)
    places = {feature: place for place, feature in enumerate(layout.features)}
    for block in layout.blocks:
        windows = Counter(letters[i : i + block.k] for i in range(len(letters) - block.k + 1))
        for word, number in windows.items():
            if set(word) <= set("ACGT"):
                counts[places[min(word, reverse_complement(word))]] += number
    return counts
