"""Maps: every embedding as a point of a plane, neighbors beside each other."""

from kinmer.maps.mapfiles import KEYS, MapResult, open_map, write_map
from kinmer.maps.picture import draw, known_more
from kinmer.maps.placement import place
from kinmer.maps.projection import make_map

__all__ = ["KEYS", "MapResult", "draw", "known_more", "make_map", "open_map", "place", "write_map"]
