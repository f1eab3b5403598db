"""Maps: every embedding as a point of a plane, neighbours beside each other."""

from kinmer.maps.base import KEYS, MapResult
from kinmer.maps.making import tsne
from kinmer.maps.placing import place
from kinmer.maps.saving import open_map, write_map

__all__ = ["KEYS", "MapResult", "open_map", "place", "tsne", "write_map"]
