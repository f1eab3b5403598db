"""Clusters: communities of the neighbour graph, or dense places of a map; and what labels say of them."""

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
