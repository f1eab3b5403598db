"""The version, on the lowest floor: every room may say it."""

__version__ = "0.2.0.dev0"
