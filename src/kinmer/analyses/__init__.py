"""What the space is like: distances, nearest neighbours and their counts, one sequence, hubs, groups."""

from kinmer.analyses.distances import DistanceAnalysis, OneAnalysis, analyze_distances, analyze_one
from kinmer.analyses.groups import GroupAnalysis, analyze_groups
from kinmer.analyses.neighborhoods import (
    CountAnalysis,
    HubAnalysis,
    NeighborAnalysis,
    analyze_counts,
    analyze_hubs,
    analyze_neighbors,
)

__all__ = [
    "CountAnalysis",
    "DistanceAnalysis",
    "GroupAnalysis",
    "HubAnalysis",
    "NeighborAnalysis",
    "OneAnalysis",
    "analyze_counts",
    "analyze_distances",
    "analyze_groups",
    "analyze_hubs",
    "analyze_neighbors",
    "analyze_one",
]
