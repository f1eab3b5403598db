"""What a sweep trains on and is scored with: checked, described, and laid out for its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinmer.errors import UsageError
from kinmer.fasta import nonempty, read_blocks
from kinmer.files import hash_file, hash_ids, replaced_text
from kinmer.fragments import Benchmark, open_benchmark, read_labels
from kinmer.layout import Layout, profile_layout
from kinmer.profiles import open_profiles
from kinmer.sweeping.validation import Validation, folds_of, trained_on, write_validation
from kinmer.training.sources import fasta_files, refuse_labels

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

__all__ = ["Data", "Prepared", "prepared"]

Say = Callable[[str], None]
RETRIEVAL, HELD_OUT, LOSS = "species@1", "retrieval of held-out species", "validation loss"
FOLDS, OUT, IN = "folds.tsv", "out", "in"


@dataclass(frozen=True, kw_only=True)
class Data:
    """What `sweep` was given; the meaning is told there."""

    source: str | Path | AnnData | Profiles | Sequence[str | Path]
    ids: str | Path | None
    labels: str | Path | None
    layout: Layout | None
    benchmark: str | Path | None
    fold: int | None
    leave_out: tuple[int, ...]
    metric: str


class Prepared(NamedTuple):
    """signature : JSON-able, of data and score. source, options : of `kinmer.train`, JSON where on disk."""

    signature: dict[str, Any]
    source: Any
    options: dict[str, Any]
    benchmark: Benchmark | None

    def validation(self, given: Data, folder: Path) -> Validation | None:
        """The queries, in `folder`, and beside them the folds that a training on FASTA leaves out."""
        if self.benchmark is None:
            return None
        found = write_validation(self.benchmark, given.fold, folder, given.metric)
        if self.options.get("fold") is not None:
            out = _left_out(given)
            with replaced_text(folder / FOLDS) as file:
                file.write("sequence_id\tfold\n")
                for one, fold in folds_of(self.benchmark).items():
                    file.write(f"{one}\t{OUT if fold in out else IN}\n")
            self.options["folds"] = str((folder / FOLDS).absolute())
        return found


def prepared(given: Data, say: Say) -> Prepared:
    """Check what was given and describe it.

    Raises UsageError for what does not go together, and where species of the validation are trained on.
    """
    if given.metric not in ("cosine", "l2"):
        raise UsageError(f"the metric is cosine or l2, not {given.metric!r}")
    if given.benchmark is None and (given.fold is not None or given.leave_out):
        raise UsageError("a fold is one of a benchmark's", check="give the benchmark too")
    found = None if given.benchmark is None else open_benchmark(given.benchmark)
    files = fasta_files(given.source)
    if files is None:
        refuse_labels(given.labels, given.layout)
        facts, source, options, ids = _profiles(given)
    else:
        facts, source, options, ids = _fasta(given, nonempty(files, say), found)
    score = LOSS if files is None else HELD_OUT
    if found is not None:
        score = RETRIEVAL
        facts |= {"benchmark": found.folder.name, "benchmark_fingerprint": found.fingerprint}
        facts |= {"fold": given.fold, "left_out": list(given.leave_out), "metric": given.metric}
        if files is None:
            _check_apart(ids, found, given, say)
    signature = {"data": facts, "score": score, "maximise": score != LOSS}
    return Prepared(signature, source, options, found)


def _profiles(given: Data) -> tuple[dict[str, Any], Any, dict[str, Any], Sequence[Any]]:
    profiles = open_profiles(given.source, ids=given.ids)
    facts = {
        "profiles": Path(given.source).name if isinstance(given.source, str | Path) else "in memory",
        "rows": len(profiles),
        "ids": profiles.fingerprint,
        "layout": profiles.layout.fingerprint,
    }
    options = {"ids": None if given.ids is None else _absolute(given.ids)}
    source = given.source if not isinstance(given.source, str | Path) else _absolute(given.source)
    return facts, source, options, list(profiles.ids)


def _fasta(
    given: Data, files: Sequence[str | Path], benchmark: Benchmark | None
) -> tuple[dict[str, Any], Any, dict[str, Any], Sequence[Any]]:
    if given.ids is not None:
        raise UsageError("ids are those of a table of profiles", check="leave out --ids")
    if benchmark is not None and given.fold is None:
        raise UsageError(
            "the fold to score with is not given",
            "its sequences are not trained on",
            "give one of the benchmark's folds",
        )
    layout = given.layout or profile_layout(coding=True)
    ids: list[str] = []
    for file in files:
        for block in read_blocks(file):
            ids += block.ids[int(block.continues) :]
    if benchmark is not None:
        known = folds_of(benchmark)
        strange = next((one for one in ids if one not in known), None)
        if strange is not None:
            raise UsageError(
                f"the sequence {strange!r} is not in the benchmark's folds",
                "whether its species is asked about cannot be told",
                "train on files that the benchmark was made of",
                place=benchmark.folder,
            )
    if given.labels is not None:
        read_labels(given.labels)
    facts = {
        "files": len(files),
        "first_file": Path(files[0]).name,
        "sequences": len(ids),
        "ids": hash_ids(ids),
        "labels": None if given.labels is None else hash_file(given.labels),
        "layout": layout.fingerprint,
        "genetic_code": layout.genetic_code,
    }
    options = {
        "labels": None if given.labels is None else _absolute(given.labels),
        "fold": None if benchmark is None else OUT,
        "layout": layout.to_dict(),
    }
    return facts, [_absolute(file) for file in files], options, ids


def _check_apart(ids: Sequence[Any], benchmark: Benchmark, given: Data, say: Say) -> None:
    known, inside = trained_on(ids, benchmark, _left_out(given) if given.fold is not None else None)
    if inside:
        raise UsageError(
            f"{inside:,} of {len(ids):,} training rows are of the validation species or of a fold left out",
            "a score on species that were trained on says little",
            "train on sequences of other folds (folds.tsv in the benchmark), or choose another --fold",
            place=benchmark.folder,
        )
    if not known:
        say("no training row has an id of the benchmark: that no species is in both is not checked")


def _left_out(given: Data) -> set[str]:
    """Folds that are not trained on."""
    return {str(one) for one in (given.fold, *given.leave_out) if one is not None}


def _absolute(path: str | Path) -> str:
    return str(Path(path).absolute())
