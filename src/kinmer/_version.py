"""The version, on the lowest floor: every room may say it."""

__version__ = "0.1.0"
