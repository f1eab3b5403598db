"""One page with everything that is known of a store."""

from kinmer.reports.making import report

__all__ = ["report"]
