"""Every error that kinmer raises on purpose.

KinmerError                 exit 1   the run failed
├── UsageError              exit 2   settings that do not go together, an output that exists
│   └── NotInstalledError            a library that this step needs, and the extra that brings it
├── InputError              exit 2   what was given cannot be used
│   ├── SequenceError                not FASTA, truncated, protein, duplicate ids, nothing long enough
│   ├── ProfileError                 wrong columns, NaN, negative values, ids that do not match the rows
│   └── FormatError                  a stored thing that is damaged, unfinished or of another version
│       └── MismatchError            two whole things that do not belong together (layout, fingerprint)
├── TrainingError           exit 1   the loss is not a number, the rows are too few
└── EngineError             exit 1   a vector engine failed and could not be rebuilt

A message is one line: *what is wrong · why it matters · what to check*, with the place (file, record, line)
in front where there is one.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Letters of a part of a message.
LONGEST_PART = 800


class KinmerError(Exception):
    """Base of the tree.

    Parameters
    ----------
    what : str
        What is wrong, without a final full stop.
    why : str
        Why it matters; left out of the line where empty.
    check : str
        What the user can check or do.
    place : str | Path | None
        File, record or line that the error is about, such as ``"a.fna, record 3 ('contig_3')"``.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", check: str = "", *, place: str | Path | None = None) -> None:
        self.what, self.why, self.check = what, why, check
        self.place = None if place is None else str(place)
        super().__init__(str(self))

    def __str__(self) -> str:
        line = " · ".join(_short(part) for part in (self.what, self.why, self.check) if part)
        line = f"{self.place}: {line}" if self.place else line
        return " ".join(line.split())


def _short(part: str) -> str:
    """A part of a message that quotes something endless, without its middle."""
    return part if len(part) <= LONGEST_PART else f"{part[: LONGEST_PART - 100]}…{part[-99:]}"


class UsageError(KinmerError):
    """Settings that do not go together, or an output that exists."""

    exit_code = 2


class NotInstalledError(UsageError):
    """A library that only some steps need is not installed."""


class InputError(KinmerError):
    """What was given cannot be used."""

    exit_code = 2


class SequenceError(InputError):
    """A sequence file that cannot be read as nucleotide FASTA."""


class ProfileError(InputError):
    """A table of profiles that is not one."""


class FormatError(InputError):
    """A stored thing that is damaged, unfinished or of another version."""


class EngineBehindError(FormatError):
    """An engine of an earlier state or version, or none: nothing is damaged, the next search builds it."""


class MismatchError(FormatError):
    """Two whole things that do not belong together."""


class TrainingError(KinmerError):
    """Training cannot start or cannot continue."""


class EngineError(KinmerError):
    """A vector engine failed."""


# What people call the modules that are not named like their package.
_PACKAGES = {"torch": "PyTorch", "sklearn": "scikit-learn", "chromadb": "ChromaDB"}


def require(module: str, why: str, extra: str) -> None:
    """Raise NotInstalledError, with the `extra` of kinmer that brings it, where `module` is not installed."""
    if find_spec(module) is None:
        name = _PACKAGES.get(module, module)
        raise NotInstalledError(f"{name} is not installed", why, f"pip install 'kinmer[{extra}]'")
