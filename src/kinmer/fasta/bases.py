"""How much of a sequence is A, C, G, T: gaps and ambiguous letters say nothing of it."""

from __future__ import annotations

__all__ = ["base_count"]

_OTHERS = bytes(byte for byte in range(256) if byte not in b"ACGTUacgtu")


def base_count(letters: bytes) -> int:
    """Number of the letters A, C, G, T and U, in either case."""
    return len(letters.translate(None, _OTHERS))
