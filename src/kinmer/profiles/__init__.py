"""Tables of profiles: the profile store, AnnData on disk and in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinmer.profiles.protocol import Profiles as Profiles
    from kinmer.profiles.protocol import Values as Values
    from kinmer.profiles.readers import AnnDataProfiles as AnnDataProfiles
    from kinmer.profiles.readers import NpyProfiles as NpyProfiles
    from kinmer.profiles.readers import ProfilesInfo as ProfilesInfo
    from kinmer.profiles.readers import info as info
    from kinmer.profiles.readers import open_profiles as open_profiles
    from kinmer.profiles.readers import stamp_of as stamp_of
    from kinmer.profiles.readers import table_kind as table_kind
    from kinmer.profiles.store import MatrixWriter as MatrixWriter
    from kinmer.profiles.store import ProfileStore as ProfileStore
    from kinmer.profiles.stored import H5adProfiles as H5adProfiles
    from kinmer.profiles.stored import StoredProfiles as StoredProfiles
    from kinmer.profiles.writer import ProfileWriter as ProfileWriter

__all__ = [
    "AnnDataProfiles",
    "H5adProfiles",
    "MatrixWriter",
    "NpyProfiles",
    "ProfileStore",
    "ProfileWriter",
    "Profiles",
    "ProfilesInfo",
    "StoredProfiles",
    "Values",
    "info",
    "open_profiles",
    "stamp_of",
    "table_kind",
]

# Read when a name is first used: a search needs little of this room, and much of it is slow to import.
_FILES = {
    "protocol": ("Profiles", "Values"),
    "readers": (
        "AnnDataProfiles",
        "NpyProfiles",
        "ProfilesInfo",
        "info",
        "open_profiles",
        "stamp_of",
        "table_kind",
    ),
    "store": ("MatrixWriter", "ProfileStore"),
    "stored": ("H5adProfiles", "StoredProfiles"),
    "writer": ("ProfileWriter",),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f"kinmer.profiles.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
