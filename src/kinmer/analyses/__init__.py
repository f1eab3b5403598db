"""What the space is like: distances, nearest neighbors and their counts, one sequence, hubs, groups."""

from kinmer.analyses.distances import DistanceAnalysis, OneAnalysis, analyze_distances, analyze_one
from kinmer.analyses.neighborhoods import CountAnalysis, NeighborAnalysis, analyze_counts, analyze_neighbors
from kinmer.analyses.structure import GroupAnalysis, HubAnalysis, analyze_groups, analyze_hubs

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
