"""``python -m kinmer``."""

from kinmer.cli import main

main()
