"""Finds the kin of a DNA sequence.

Every command of the command line is one function here. Importing kinmer loads nothing heavy: a name is
imported from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinmer._version import __version__ as __version__

if TYPE_CHECKING:
    from kinmer.analyses import analyze_counts as analyze_counts
    from kinmer.analyses import analyze_distances as analyze_distances
    from kinmer.analyses import analyze_groups as analyze_groups
    from kinmer.analyses import analyze_hubs as analyze_hubs
    from kinmer.analyses import analyze_neighbors as analyze_neighbors
    from kinmer.analyses import analyze_one as analyze_one
    from kinmer.clr import Clr as Clr
    from kinmer.clusters import cluster as cluster
    from kinmer.clusters import evaluate_clusters as evaluate_clusters
    from kinmer.costs import Estimate as Estimate
    from kinmer.costs import estimate as estimate
    from kinmer.counting import count as count
    from kinmer.demo import run_demo as run_demo
    from kinmer.embedding import embed as embed
    from kinmer.encoder import Encoder as Encoder
    from kinmer.errors import KinmerError as KinmerError
    from kinmer.estimators import KinmerClassifier as KinmerClassifier
    from kinmer.estimators import KinmerEncoder as KinmerEncoder
    from kinmer.evaluate.answers import evaluate_answers as evaluate_answers
    from kinmer.evaluate.locality import verify as verify
    from kinmer.evaluate.retrieval import compare_retrieval as compare_retrieval
    from kinmer.evaluate.retrieval import evaluate_retrieval as evaluate_retrieval
    from kinmer.fragments import benchmark as benchmark
    from kinmer.fragments import fragment as fragment
    from kinmer.layout import Layout as Layout
    from kinmer.layout import kmer_layout as kmer_layout
    from kinmer.layout import profile_layout as profile_layout
    from kinmer.library import KinIndex as KinIndex
    from kinmer.library import add_to_index as add_to_index
    from kinmer.library import build_index as build_index
    from kinmer.library import build_reference as build_reference
    from kinmer.library import check_index as check_index
    from kinmer.library import compact_index as compact_index
    from kinmer.library import delete_from_index as delete_from_index
    from kinmer.library import describe_index as describe_index
    from kinmer.library import open_index as open_index
    from kinmer.library import update_index as update_index
    from kinmer.maps import MapResult as MapResult
    from kinmer.maps import make_map as make_map
    from kinmer.maps import open_map as open_map
    from kinmer.maps import place as place
    from kinmer.merge import merge_indexes as merge_indexes
    from kinmer.npy import export_profiles as export_profiles
    from kinmer.npy import import_profiles as import_profiles
    from kinmer.profiles import ProfileStore as ProfileStore
    from kinmer.profiles import open_profiles as open_profiles
    from kinmer.queries import Hit as Hit
    from kinmer.queries import QueryResult as QueryResult
    from kinmer.queries import SearchResults as SearchResults
    from kinmer.queries import annotate as annotate
    from kinmer.queries import search as search
    from kinmer.reports import report as report
    from kinmer.simulate import write_community as write_community
    from kinmer.sweeps import sweep as sweep
    from kinmer.training import TrainSettings as TrainSettings
    from kinmer.training import train as train
    from kinmer.training.fit import FitSettings as FitSettings
    from kinmer.training.fit import fit as fit

_ROOMS = {
    "add_to_index": "library",
    "analyze_counts": "analyses",
    "analyze_distances": "analyses",
    "analyze_groups": "analyses",
    "analyze_hubs": "analyses",
    "analyze_neighbors": "analyses",
    "analyze_one": "analyses",
    "annotate": "queries",
    "benchmark": "fragments",
    "build_index": "library",
    "build_reference": "library",
    "check_index": "library",
    "Clr": "clr",
    "cluster": "clusters",
    "compact_index": "library",
    "compare_retrieval": "evaluate.retrieval",
    "count": "counting",
    "delete_from_index": "library",
    "describe_index": "library",
    "embed": "embedding",
    "Encoder": "encoder",
    "Estimate": "costs",
    "estimate": "costs",
    "evaluate_answers": "evaluate.answers",
    "evaluate_clusters": "clusters",
    "evaluate_retrieval": "evaluate.retrieval",
    "export_profiles": "npy",
    "fit": "training.fit",
    "FitSettings": "training.fit",
    "fragment": "fragments",
    "Hit": "queries",
    "import_profiles": "npy",
    "KinIndex": "library",
    "KinmerClassifier": "estimators",
    "KinmerEncoder": "estimators",
    "KinmerError": "errors",
    "kmer_layout": "layout",
    "Layout": "layout",
    "make_map": "maps",
    "MapResult": "maps",
    "merge_indexes": "merge",
    "open_index": "library",
    "open_map": "maps",
    "open_profiles": "profiles",
    "place": "maps",
    "profile_layout": "layout",
    "ProfileStore": "profiles",
    "QueryResult": "queries",
    "report": "reports",
    "run_demo": "demo",
    "search": "queries",
    "SearchResults": "queries",
    "sweep": "sweeps",
    "train": "training",
    "TrainSettings": "training",
    "update_index": "library",
    "verify": "evaluate.locality",
    "write_community": "simulate",
}

# Old names, which still work with a warning.
_RENAMED = {"tsne": "make_map"}

__all__ = sorted(_ROOMS, key=str.lower)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        import warnings

        warnings.warn(f"kinmer.{name} is now kinmer.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _ROOMS:
        raise AttributeError(f"module 'kinmer' has no attribute {name!r}")
    return getattr(import_module(f"kinmer.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
