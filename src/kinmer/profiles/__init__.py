"""Tables of profiles: the profile store, AnnData on disk and in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from kinmer.profiles.protocol import Profiles, Values
from kinmer.profiles.readers import (
    AnnDataProfiles,
    NpyProfiles,
    ProfilesInfo,
    info,
    open_profiles,
    stamp_of,
    table_kind,
)
from kinmer.profiles.store import MatrixWriter, ProfileStore
from kinmer.profiles.stored import H5adProfiles, StoredProfiles
from kinmer.profiles.writer import ProfileWriter

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
