"""Tables of profiles: the profile store, AnnData on disk and in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from kinmer.profiles.base import Profiles, Values
from kinmer.profiles.h5ad import H5adProfiles
from kinmer.profiles.matrix import MatrixWriter
from kinmer.profiles.memory import AnnDataProfiles
from kinmer.profiles.opening import ProfilesInfo, info, open_profiles, stamp_of, table_kind
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.stored import StoredProfiles
from kinmer.profiles.table import NpyProfiles
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
