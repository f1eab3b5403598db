"""Maps: every embedding as a point of a plane, neighbours beside each other."""

from kinmer.maps.base import KEYS, MapResult
from kinmer.maps.drawing import draw, known_more
from kinmer.maps.making import space_of, tsne
from kinmer.maps.placing import place
from kinmer.maps.saving import open_map, write_map

__all__ = ["KEYS", "MapResult", "draw", "known_more", "open_map", "place", "space_of", "tsne", "write_map"]
