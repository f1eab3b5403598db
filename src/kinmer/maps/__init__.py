"""Maps: every embedding as a point of a plane, neighbours beside each other."""

from kinmer.maps.mapfiles import KEYS, MapResult, open_map, write_map
from kinmer.maps.picture import draw, known_more
from kinmer.maps.placement import place
from kinmer.maps.projection import space_of, tsne

__all__ = ["KEYS", "MapResult", "draw", "known_more", "open_map", "place", "space_of", "tsne", "write_map"]
