"""Clusters: communities of the neighbor graph, or dense parts of a map, and how they agree with labels."""

from kinmer.clusters.agreement import Agreement, ClusterReport, agreement_of, evaluate_clusters
from kinmer.clusters.partition import Clustering, cluster

__all__ = [
    "Agreement",
    "ClusterReport",
    "Clustering",
    "agreement_of",
    "cluster",
    "evaluate_clusters",
]
