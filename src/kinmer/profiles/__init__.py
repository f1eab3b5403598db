"""Tables of profiles: the profile store, AnnData on disk and in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinmer.profiles.arrays import MatrixWriter as MatrixWriter
    from kinmer.profiles.protocol import NpyProfiles as NpyProfiles
    from kinmer.profiles.protocol import Profiles as Profiles
    from kinmer.profiles.protocol import Values as Values
    from kinmer.profiles.store import ProfilesInfo as ProfilesInfo
    from kinmer.profiles.store import ProfileStore as ProfileStore
    from kinmer.profiles.store import info as info
    from kinmer.profiles.store import open_profiles as open_profiles
    from kinmer.profiles.store import stamp_of as stamp_of
    from kinmer.profiles.store_writer import ProfileWriter as ProfileWriter
    from kinmer.profiles.stored import AnnDataProfiles as AnnDataProfiles
    from kinmer.profiles.stored import H5adProfiles as H5adProfiles
    from kinmer.profiles.stored import StoredProfiles as StoredProfiles

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
]

# Read when a name is first used: a search needs little of this room, and much of it is slow to import.
_FILES = {
    "arrays": ("MatrixWriter",),
    "protocol": ("NpyProfiles", "Profiles", "Values"),
    "store": ("ProfileStore", "ProfilesInfo", "info", "open_profiles", "stamp_of"),
    "store_writer": ("ProfileWriter",),
    "stored": ("AnnDataProfiles", "H5adProfiles", "StoredProfiles"),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f"kinmer.profiles.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
