"""What the space is like: distances, nearest neighbours and their counts, one sequence, hubs, groups."""

from kinmer.analyses.distances import DistanceAnalysis, analyze_distances
from kinmer.analyses.groups import GroupAnalysis, analyze_groups
from kinmer.analyses.hubs import HubAnalysis, analyze_hubs
from kinmer.analyses.nearest import CountAnalysis, NeighborAnalysis, analyze_counts, analyze_neighbors
from kinmer.analyses.single import OneAnalysis, analyze_one

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
