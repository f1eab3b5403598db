"""Two fragments of one sequence or genome, again and again: the pairs that an encoder is trained on."""

from kinmer.views.drawing import PairBatch, Views, ViewSettings, sample_fragments
from kinmer.views.packed import Groups, PackedSequences
from kinmer.views.places import Fragments, Places, count_fragments

__all__ = [
    "Fragments",
    "Groups",
    "PackedSequences",
    "PairBatch",
    "Places",
    "ViewSettings",
    "Views",
    "count_fragments",
    "sample_fragments",
]
