"""What the space is like: distances, nearest neighbours, counts against distance, one sequence, hubs."""

from kinmer.analyses.distances import DistanceAnalysis, analyze_distances
from kinmer.analyses.hubs import HubAnalysis, analyze_hubs
from kinmer.analyses.nearest import CountAnalysis, NeighborAnalysis, analyze_counts, analyze_neighbors
from kinmer.analyses.single import OneAnalysis, analyze_one

__all__ = [
    "CountAnalysis",
    "DistanceAnalysis",
    "HubAnalysis",
    "NeighborAnalysis",
    "OneAnalysis",
    "analyze_counts",
    "analyze_distances",
    "analyze_hubs",
    "analyze_neighbors",
    "analyze_one",
]
