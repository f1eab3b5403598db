"""Tables of profiles: the profile store on disk, AnnData in memory, the old ``.npy`` files.

`open_profiles` takes any of them; `ProfileWriter` makes a store.
"""

from kinmer.profiles.base import Profiles, Values
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.writer import ProfileWriter

__all__ = ["ProfileStore", "ProfileWriter", "Profiles", "Values"]
