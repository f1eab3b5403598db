"""Evidence of an index: letters kept or of files, identities known by construction, one answer always."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import kinmer.queries.evidence as aligning
from kinmer.errors import InputError, UsageError
from kinmer.fasta import read_records
from kinmer.files import hash_file
from kinmer.library import KinIndex, add_to_index, build_index, delete_from_index, open_index, update_index
from kinmer.library.update import compact_index
from kinmer.queries import search
from kinmer.queries.evidence import (
    ALIGNERS,
    Alignment,
    IndexAligner,
    evidence_of,
    homologous,
    with_evidence,
)
from kinmer.queries.results import Hit
from kinmer.simulate import Community, simulate_genomes, simulate_species
from tests.organisms import encoder_of, organisms
from tests.test_evidence import measure, mutated

ENGINES = [name for name in ALIGNERS if find_spec(f"py{name}") is not None]
ENCODER = encoder_of()
SMALL = Community(phyla=2, families=1, genera=2, species=2, strains=1, chromosome=90_000, plasmid=20_000)
GENOMES = {
    genome.id: {one.id: one.sequence for one in genome.replicons}
    for species in simulate_species(SMALL)
    for genome in simulate_genomes(species, SMALL)
}
LETTERS = {name: text for parts in GENOMES.values() for name, text in parts.items()}
FIRST, SECOND, THIRD, *_ = GENOMES
CHROMOSOME, PLASMID = GENOMES[FIRST]
# A strain of the first genome at 97 %, one of the second's plasmid at 99 %, and what is of none.
STRANGE = next(simulate_genomes(simulate_species(SMALL)[0], replace(SMALL, seed=9))).replicons[0].sequence
QUERIES = {
    "strain": mutated(LETTERS[CHROMOSOME][10_000:40_000], 0.03, 1),
    "plasmid": mutated(list(GENOMES[SECOND].values())[1][:10_000], 0.01, 2),
    "strange": STRANGE[:20_000],
    "short": LETTERS[CHROMOSOME][5_000:5_400],
}


def fasta(path: Path, records: dict[str, bytes]) -> Path:
    text = b"".join(b">%s\n%s\n" % (name.encode(), letters) for name, letters in records.items())
    path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)
    return path


def built(folder: Path, *, keep: bool, single: bool = False, letters: dict[str, bytes] = LETTERS) -> Path:
    """An index of the genomes, of one file of all sequences or of one for each genome."""
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame([(name, genome) for genome, parts in GENOMES.items() for name in parts])
    table.columns = pd.Index(["sequence_id", "genome"])
    table.to_csv(folder / "m.tsv", sep="\t", index=False)
    if single:
        files = [fasta(folder / "all.fna.gz", letters)]
    else:
        files = [
            fasta(folder / f"{genome}.fna", {name: letters[name] for name in parts})
            for genome, parts in GENOMES.items()
        ]
    build_index(
        files, folder / "kin.db", encoder=ENCODER, metadata=folder / "m.tsv", keep_sequences=keep
    ).close()
    return folder / "kin.db"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("kept"), keep=True)


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("filed"), keep=False, single=True)


def numbers_of(index: KinIndex, by: str, names: Sequence[str]) -> list[int]:
    if by == "sequence":
        return [int(one) for one in index.numbers_of(names)]
    return [int(index.table.genome_number(one) or 0) for one in names]


def measured(
    path: Path,
    by: Literal["sequence", "genome"],
    names: Sequence[str],
    queries: Sequence[bytes] = tuple(QUERIES.values()),
    **settings: Any,
) -> list[list[Alignment]]:
    with open_index(path) as index:
        aligner = IndexAligner(index, by=by, **settings)
        with index.reading():
            return aligner.measure(queries, [numbers_of(index, by, names)] * len(queries))


def direct(references: Sequence[Sequence[bytes]], engine: str = "auto") -> list[list[Alignment]]:
    """The oracle: the same without an index."""
    everything = [list(range(len(references)))] * len(QUERIES)
    return measure(list(QUERIES.values()), everything, references.__getitem__, engine=engine, threads=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_kept_letters_and_files_say_what_the_sequences_say(kept: Path, filed: Path, engine: str) -> None:
    wholes = direct([[text] for text in LETTERS.values()], engine)
    genomes = direct([list(parts.values()) for parts in GENOMES.values()], engine)
    for path in (kept, filed):
        assert measured(path, "sequence", list(LETTERS), engine=engine) == wholes
        assert measured(path, "genome", list(GENOMES), engine=engine) == genomes
    # By construction: identity, fraction, and which sequence or genome it is.
    strain, plasmid, strange, short = genomes
    assert strain[0].ani == pytest.approx(0.97, abs=0.01)
    assert strain[0].aligned_fraction > 0.9
    assert wholes[0][list(LETTERS).index(CHROMOSOME)].ani == pytest.approx(0.97, abs=0.01)
    assert wholes[0][list(LETTERS).index(PLASMID)] == Alignment(None, 0.0)
    assert plasmid[1].ani == pytest.approx(0.99, abs=0.01)
    assert [homologous(one) for one in strain] == [True] + [False] * 7
    assert [homologous(one) for one in plasmid] == [False, True] + [False] * 6
    assert not any(map(homologous, strange))
    assert short == [Alignment(None, 0.0)] * 8


@pytest.mark.parametrize("by", ["sequence", "genome"])
def test_threads_batches_and_memory_change_nothing(
    kept: Path, filed: Path, by: Literal["sequence", "genome"], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(LETTERS if by == "sequence" else GENOMES)
    random = np.random.default_rng(3)
    with open_index(kept) as index:
        rows = [random.permutation(numbers_of(index, by, names))[:many].tolist() for many in (8, 5, 0, 3)]
        whole = IndexAligner(index, by=by, threads=1).measure(list(QUERIES.values()), rows)
    assert [len(row) for row in whole] == [8, 5, 0, 3]
    for path in (kept, filed):
        for threads, memory, letters in ((1, 1 << 30, 1), (2, 0, 100_000), (2, 700_000, 1 << 27)):
            monkeypatch.setattr(aligning, "LETTERS_AT_ONCE", letters)
            with open_index(path) as index:
                asked = IndexAligner(index, by=by, threads=threads, memory=memory)
                with index.reading():
                    assert asked.measure(list(QUERIES.values()), rows) == whole
                    alone = [
                        asked.measure([query], [row])[0]
                        for query, row in zip(QUERIES.values(), rows, strict=True)
                    ]
                assert alone == whole


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], list[Path]]:
    """The files that are read, and those whose checksums are computed, from now on."""
    read, checked = list[Path](), list[Path]()

    def records(path: Path) -> Iterator[tuple[str, bytes]]:
        read.append(path)
        return read_records(path)

    def checksum(path: Path) -> str:
        checked.append(path)
        return hash_file(path)

    monkeypatch.setattr("kinmer.index.sequences.read_records", records)
    monkeypatch.setattr("kinmer.index.sequences.hash_file", checksum)
    return read, checked


def test_a_file_is_read_and_checked_once_for_all_its_sequences(
    filed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, checked = watched(monkeypatch)
    told = list[str]()
    with open_index(filed) as index:
        asked = IndexAligner(index, by="sequence", threads=1, log=told.append)
        numbers = numbers_of(index, "sequence", list(LETTERS))
        for query in QUERIES.values():
            asked.measure([query], [numbers])
        assert (len(read), len(checked)) == (1, 1)
        asked.close()
        asked.close()
    found = re.fullmatch(
        r"evidence by (\w+): 64 pairs aligned, 16 sketches made, ([\d.]+) s, ([\d.]+) ms a query", told[0]
    )
    assert found is not None
    assert float(found[3]) == pytest.approx(1000 * float(found[2]) / 4, abs=1000 * 0.05 / 4 + 0.1)
    assert len(told) == 1
    # In parts of two sequences or so, what is sketched is held: no part is read twice.
    monkeypatch.setattr(aligning, "LETTERS_AT_ONCE", 110_000)
    read.clear()
    with open_index(filed) as index:
        asked = IndexAligner(index, by="genome", threads=1)
        genomes = numbers_of(index, "genome", list(GENOMES))
        asked.measure(list(QUERIES.values()), [genomes] * 4)
        assert len(read) == len(GENOMES)
        asked.measure(list(QUERIES.values()), [genomes[::-1]] * 4)
        assert len(read) == len(GENOMES)


def test_what_lies_in_one_file_is_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(LETTERS)
    halves = [{name: LETTERS[name] for name in part} for part in (names[:8], names[8:])]
    files = [fasta(tmp_path / f"{at}.fna", half) for at, half in enumerate(halves)]
    build_index(files, tmp_path / "kin.db", encoder=ENCODER).close()
    read, checked = watched(monkeypatch)
    # Room for the letters of one file, and candidates that come from both in turn.
    monkeypatch.setattr(aligning, "LETTERS_AT_ONCE", sum(map(len, halves[0].values())))
    mixed = [name for pair in zip(names[:8], names[8:], strict=True) for name in pair]
    found = measured(tmp_path / "kin.db", "sequence", mixed)
    assert sorted(path.name for path in read) == sorted(path.name for path in checked) == ["0.fna", "1.fna"]
    assert found == direct([[LETTERS[name]] for name in mixed])


def test_case_and_rna_do_not_matter(kept: Path, tmp_path: Path) -> None:
    wanted = measured(kept, "genome", list(GENOMES))
    rna = {name: text.lower().replace(b"t", b"u") for name, text in LETTERS.items()}
    asked = [one.lower().replace(b"t", b"u") for one in QUERIES.values()]
    for name, keep in (("kept", True), ("filed", False)):
        path = built(tmp_path / name, keep=keep, letters=rna)
        assert measured(path, "genome", list(GENOMES), asked) == wanted


def test_changed_and_missing_files_are_told(tmp_path: Path) -> None:
    path = built(tmp_path / "one", keep=False)
    file = tmp_path / "one" / f"{FIRST}.fna"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"A", b"C", 1))
    for by, names in (("sequence", [CHROMOSOME]), ("genome", [FIRST])):
        with pytest.raises(InputError, match=rf"{FIRST}\.fna has changed.*--keep-sequences") as caught:
            measured(path, by, names)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    # Others are not in its way.
    assert measured(path, "genome", [SECOND])[1][0].ani == pytest.approx(0.99, abs=0.01)
    file.unlink()
    with pytest.raises(UsageError, match=rf"{FIRST}\.fna is gone.*--keep-sequences"):
        measured(path, "genome", [SECOND])
    file.write_bytes(whole)
    with open_index(path) as index:
        asked = IndexAligner(index, by="genome")
        file.unlink()
        with pytest.raises(InputError, match=rf"{FIRST}\.fna is gone"), index.reading():
            asked.measure([QUERIES["strain"]], [numbers_of(index, "genome", [FIRST])])


def test_an_index_of_embeddings_has_none(tmp_path: Path) -> None:
    told = list[str]()
    with build_index(organisms(30), tmp_path / "kin.db", encoder=ENCODER) as index:
        with pytest.raises(UsageError, match="not made of sequences"):
            IndexAligner(index, by="sequence")
        query = fasta(tmp_path / "q.fna", QUERIES)
        with pytest.raises(UsageError, match="not made of sequences"):
            list(search(query, index, evidence=True, log=told.append))
    assert told == []


@pytest.mark.parametrize("keep", [True, False])
def test_what_commits_change_is_never_measured_by_old_sketches(tmp_path: Path, keep: bool) -> None:
    path = built(tmp_path / "one", keep=keep)
    query = [QUERIES["strain"]]
    with open_index(path) as index:
        genomes = IndexAligner(index, by="genome", threads=1)
        entries = IndexAligner(index, by="sequence", threads=1)

        def both() -> tuple[Alignment, Alignment]:
            with index.reading():
                genome = numbers_of(index, "genome", [FIRST])
                entry = numbers_of(index, "sequence", [CHROMOSOME])
                return genomes.measure(query, [genome])[0][0], entries.measure(query, [entry])[0][0]

        first = both()
        assert all(one.ani == pytest.approx(0.97, abs=0.01) for one in first)
        # Another sequence under the same id: the query is at 99 % of it.
        nearer = fasta(tmp_path / "new.fna", {CHROMOSOME: mutated(query[0], 0.01, 5)})
        table = tmp_path / "new.tsv"
        table.write_text(f"sequence_id\tgenome\n{CHROMOSOME}\t{FIRST}\n")
        update_index(path, nearer, metadata=table)
        second = both()
        assert all(one.ani == pytest.approx(0.99, abs=0.005) for one in second)
        # The genome loses the sequence.
        delete_from_index(path, ids=[CHROMOSOME])
        with index.reading():
            (left,) = genomes.measure(query, [numbers_of(index, "genome", [FIRST])])
        assert left == [Alignment(None, 0.0)]
        compact_index(path)
        add_to_index(path, nearer, metadata=table)
        assert both() == second
        with index.reading():
            third = genomes.measure([QUERIES["plasmid"]], [numbers_of(index, "genome", [SECOND])])
        assert third[0][0].ani == pytest.approx(0.99, abs=0.01)


def hit(rank: int, name: str) -> Hit:
    return Hit(rank, name, 0.01 * rank, 1000, 0.5, {})


def test_evidence_is_told_and_the_order_is_by_both(kept: Path) -> None:
    letters = list(QUERIES.values())
    names = [*list(GENOMES)[2:], SECOND, FIRST]
    hits = [tuple(hit(rank, name) for rank, name in enumerate(names, 1))] * 4
    with open_index(kept) as index, index.reading():
        told = list[str]()
        aligner = IndexAligner(index, by="genome", log=told.append)
        numbers = [numbers_of(index, "genome", names)] * 4
        plain = with_evidence(aligner, letters, hits, numbers, 3, rerank=False)
        aligner.close()
        both = with_evidence(aligner, letters, hits, numbers, 3, rerank=True)
        wide = with_evidence(aligner, letters, hits, numbers, 50, rerank=True)
        assert with_evidence(aligner, [], [], [], 3, rerank=True) == []
        assert with_evidence(aligner, letters[:1], [()], [[]], 3, rerank=True) == [()]
    # Without a new order only what is shown is aligned.
    assert "12 pairs aligned, 3 sketches made" in told[0]
    oracle = direct([list(GENOMES[name].values()) for name in names])
    for row, found in zip(hits, plain, strict=True):
        assert [replace(one, evidence=None) for one in found] == list(row[:3])
        assert {one.evidence.kind for one in found if one.evidence} == {"composition only"}
    for found, alignments in zip(wide, oracle, strict=True):
        assert {one.id for one in found} == set(names)
        assert [one.rank for one in found] == list(range(1, 9))
        for one in found:
            assert one.evidence == evidence_of(alignments[names.index(one.id)], True)
    strain, plasmid, strange, short = both
    assert [one.id for one in strain] == [FIRST, *names[:2]]
    assert [one.id for one in plasmid] == [SECOND, *names[:2]]
    assert [one.rank for one in strain] == [1, 2, 3]
    # It is near by alignment alone, for composition had it last.
    assert strain[0].evidence is not None
    assert (strain[0].evidence.kind, wide[0][0].evidence.kind) == ("homologous", "both")  # type: ignore[union-attr]
    assert strain[0].evidence.ani == pytest.approx(0.97, abs=0.01)
    for found, row in ((strange, hits[2]), (short, hits[3])):
        assert [replace(one, evidence=None) for one in found] == list(row[:3])
        assert {one.evidence.kind for one in found if one.evidence} == {"composition only"}


@pytest.mark.parametrize("merge", ["sequence", "genome"])
def test_a_search_with_evidence(
    kept: Path, filed: Path, tmp_path: Path, merge: Literal["sequence", "genome"]
) -> None:
    queries = fasta(tmp_path / "q.fna", QUERIES)
    plain = list(search(queries, kept, k=4, by=merge))
    told = list[str]()
    shown = list(search(queries, kept, k=4, by=merge, evidence=True, log=told.append))
    assert "evidence by" in told[-1]
    for one, other in zip(plain, shown, strict=True):
        assert [replace(hit, evidence=None) for hit in other.hits] == list(one.hits)
        assert all(hit.evidence is not None for hit in other.hits)
    runs = [
        list(search(queries, path, k=4, by=merge, rank_by_evidence=True, n_jobs=threads))
        for path in (kept, filed)
        for threads in (1, 2)
    ]
    assert all([one.hits for one in run] == [one.hits for one in runs[0]] for run in runs)
    by_id = {one.id: one for one in runs[0]}
    assert by_id["strain"].hits[0].id == (FIRST if merge == "genome" else CHROMOSOME)
    assert by_id["plasmid"].hits[0].genome == SECOND
    for name in ("strange", "short"):
        [composition] = [one for one in plain if one.id == name]
        assert [replace(hit, evidence=None) for hit in by_id[name].hits] == list(composition.hits)
