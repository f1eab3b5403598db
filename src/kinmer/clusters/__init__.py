"""Clusters: communities of the neighbour graph, or dense places of a map; and what labels say of them."""

from kinmer.clusters.agreement import Agreement, agreement_of
from kinmer.clusters.evaluating import ClusterReport, evaluate_clusters
from kinmer.clusters.running import Clustering, cluster

__all__ = [
    "Agreement",
    "ClusterReport",
    "Clustering",
    "agreement_of",
    "cluster",
    "evaluate_clusters",
]
