"""Clusters: communities of the neighbour graph, or dense places of a map; and what labels say of them."""

from kinmer.clusters.agreement import Agreement, agreement_of
from kinmer.clusters.running import Clustering, cluster

__all__ = ["Agreement", "Clustering", "agreement_of", "cluster"]
