"""What a search gives: results one after the other, as tables, and written in any format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from kinmer.errors import UsageError
from kinmer.files import replaced_text
from kinmer.folders import check_output
from kinmer.queries.formats import unique_names, writer_of
from kinmer.queries.results import QueryResult, call_columns, call_values, hit_columns, hit_values

if TYPE_CHECKING:
    import pandas as pd


class SearchResults(Iterator[QueryResult]):
    """The results of a search, query after query, in the order of the queries.

    They are computed as they are read. Iterating or writing keeps nothing: memory does not depend on the
    number of queries, and results can be read once. `calls` and `hits` read all and keep them; from then on
    they can be iterated and written as often as wanted.

    Indexes are closed when all is read, by `close`, or at the end of a ``with`` block; one that was given
    open stays open.

    Examples
    --------
    >>> with kinmer.search("contigs.fna", "my.db") as results:  # doctest: +SKIP
    ...     table = results.calls
    """

    def __init__(
        self,
        results: Iterator[QueryResult],
        *,
        evidence: bool = False,
        facets: bool = False,
        db: bool = False,
        windows: bool = False,
    ) -> None:
        self._results, self._evidence, self._facets, self._db = results, evidence, facets, db
        self._windows = windows
        self._kept: list[QueryResult] | None = None
        self._read, self._done = 0, False

    def __iter__(self) -> Iterator[QueryResult]:
        if self._kept is not None:
            return iter(self._kept)
        if self._done:
            raise self._spent()
        return self

    def __next__(self) -> QueryResult:
        try:
            result = next(self._results)
        except BaseException:
            self._done = True
            raise
        self._read += 1
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._kept is not None:
            return f"SearchResults({len(self._kept):,} queries)"
        return f"SearchResults({self._read:,} queries read{', closed' if self._done else ''})"

    def close(self) -> None:
        """Stop the search and close its index. What `calls` or `hits` have read stays."""
        self._done = True
        close = getattr(self._results, "close", None)
        if close is not None:
            close()

    @property
    def calls(self) -> pd.DataFrame:
        """One row a query, with the columns of the format ``calls``; missing values are NaN or None.

        Reads all results and keeps them. Raises UsageError where some were read before.
        """
        import pandas as pd

        return pd.DataFrame(map(call_values, self._keep()), columns=call_columns(self._db, self._windows))

    @property
    def hits(self) -> pd.DataFrame:
        """One row a hit, with the columns of the format ``tsv``: the hit's own, then the index's metadata.

        Reads all results and keeps them. Raises UsageError where some were read before.
        """
        import pandas as pd

        results = self._keep()
        own = hit_columns(self._evidence, self._facets, self._db)
        pairs = [(result, facet, hit) for result in results for facet, hit in result.every_hit()]
        metadata = list(pairs[0][2].metadata) if pairs else next((list(one.columns) for one in results), [])
        rows: list[list[Any]] = []
        for result, facet, hit in pairs:
            values = hit_values(result, hit, facet)
            rows.append([*(values[name] for name in own), *hit.metadata.values()])
        table = pd.DataFrame(rows, columns=[*own, *unique_names(own, metadata)])
        # Whole numbers stay whole where some are missing.
        return table.astype({name: "Int64" for name in ("length", "start", "stop") if name in own})

    def write(self, target: str | Path | TextIO, format: str = "tsv", *, force: bool = False) -> int:  # noqa: A002
        """Write the results.

        Parameters
        ----------
        target : str | Path | TextIO
            A path, which gets the whole file or stays as it was, or an open text stream.
        format : str
            "tsv" (a line a hit), "calls" (a line a query), "json", "jsonl", "blast", "krona" or
            "lineage" (a report of the sample).
        force : bool
            Replace a file that exists.

        Returns
        -------
        The number of queries.

        Raises
        ------
        UsageError : an unknown format, a file that exists, or results that were read before.
        """
        shown = {"evidence": self._evidence, "facets": self._facets, "db": self._db, "windows": self._windows}
        write = writer_of(format, **shown)
        if isinstance(target, str | Path):
            check_output(Path(target), force=force, stream=True)
            with replaced_text(target) as file:
                return self.write(file, format)
        if self._kept is None and self._read:
            raise self._spent()
        try:
            return write(self, target)
        finally:
            self.close()

    def _keep(self) -> list[QueryResult]:
        if self._kept is None:
            if self._read or self._done:
                raise self._spent()
            self._kept = list(self)
        return self._kept

    def _spent(self) -> UsageError:
        return UsageError(
            "the results of this search have been read" if self._read else "this search is closed",
            "they are computed as they are read, and not kept",
            "search again, keep them in a list, or use `calls` or `hits` first",
        )
