"""Tables of profiles: the profile store on disk, AnnData in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from kinmer.profiles.base import Profiles, Values
from kinmer.profiles.matrix import MatrixWriter
from kinmer.profiles.memory import AnnDataProfiles
from kinmer.profiles.opening import ProfilesInfo, info, open_profiles
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.table import NpyProfiles
from kinmer.profiles.writer import ProfileWriter

__all__ = [
    "AnnDataProfiles",
    "MatrixWriter",
    "NpyProfiles",
    "ProfileStore",
    "ProfileWriter",
    "Profiles",
    "ProfilesInfo",
    "Values",
    "info",
    "open_profiles",
]
