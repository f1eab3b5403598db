"""Searching: the nearest relatives of sequences, what they agree on, and how it is written down."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kinmer.encoder import Encoder
from kinmer.errors import FormatError, InputError, MismatchError, SequenceError, UsageError
from kinmer.kmers import KmerCounter
from kinmer.library import build_index, open_index
from kinmer.queries import RankCall, search, search_ids, write_tsv, writer_of
from tests.organisms import encoder_of, organisms

MAX_K = 3
ENCODER = encoder_of(MAX_K)
KINDS = 6


def genomes(number: int, *, length: int, seed: int) -> dict[str, bytes]:
    """Sequences of KINDS kinds, each with letters of its own frequencies; the kind is in the id."""
    shares = np.random.default_rng(99).dirichlet(np.full(4, 1.0), KINDS)
    random = np.random.default_rng(seed)
    return {
        f"g{seed}_{i}_kind{i % KINDS}": np.frombuffer(b"ACGT", np.uint8)[
            random.choice(4, size=length, p=shares[i % KINDS])
        ].tobytes()
        for i in range(number)
    }


def fasta(path: Path, records: dict[str, bytes], width: int = 70) -> Path:
    with path.open("wb") as file:
        for name, letters in records.items():
            file.write(b">%s some words\n" % name.encode())
            for start in range(0, len(letters), width):
                file.write(letters[start : start + width] + b"\n")
    return path


def embedded(records: dict[str, bytes], encoder: Encoder = ENCODER) -> NDArray[np.float32]:
    return encoder.embed(KmerCounter(encoder.layout).count_sequences(list(records.values())).counts)


ENTRIES = genomes(120, length=3000, seed=1)
QUERIES = genomes(30, length=2000, seed=2)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from anndata import AnnData

    folder = tmp_path_factory.mktemp("search")
    counted = KmerCounter(ENCODER.layout).count_sequences(list(ENTRIES.values()))
    table = AnnData(counted.counts.astype(np.float32))
    table.obs_names = list(ENTRIES)
    table.var_names = list(ENCODER.layout.features)
    table.obs["length"] = counted.lengths
    table.obs["gc"] = 0.5
    lines = ["id\tspecies\tgenus\tnote"]
    for number, name in enumerate(ENTRIES):
        kind = int(name[-1])
        lines.append(f"{name}\tspecies {kind}\tgenus {kind // 2}\t{'.' if number else 'first'}")
    (folder / "taxa.tsv").write_text("\n".join(lines))
    build_index(table, folder / "kin.db", encoder=ENCODER, metadata=folder / "taxa.tsv").close()
    return folder / "kin.db"


def nearest(queries: NDArray[np.float32], k: int, metric: str) -> tuple[list[list[str]], NDArray[np.float64]]:
    """By definition, in double precision: ids and distances of the k nearest entries."""
    base, asked = embedded(ENTRIES).astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(base, axis=1)
        table = 1 - asked @ base.T / lengths
    else:
        table = np.sqrt(((asked[:, None] - base) ** 2).sum(axis=2))
    order = np.argsort(table, axis=1, kind="stable")[:, :k]
    names = list(ENTRIES)
    return [[names[one] for one in row] for row in order], np.take_along_axis(table, order, axis=1)


@pytest.mark.parametrize("metric", [None, "cosine", "l2"])
def test_fasta_to_the_nearest_entries(metric: Any, db: Path, tmp_path: Path) -> None:
    path = fasta(tmp_path / "q.fna", QUERIES)
    results = list(search(path, db, k=7, metric=metric))
    ids, distances = nearest(embedded(QUERIES), 7, metric or "cosine")
    assert [result.id for result in results] == list(QUERIES)
    assert [result.length for result in results] == [2000] * 30
    assert [[hit.id for hit in result.hits] for result in results] == ids
    np.testing.assert_allclose(
        [[hit.distance for hit in result.hits] for result in results], distances, atol=1e-6
    )
    for result in results:
        assert [hit.rank for hit in result.hits] == list(range(1, 8))
        for hit in result.hits:
            assert (hit.length, hit.gc) == (3000, 0.5)
            assert hit.metadata["species"] == f"species {hit.id[-1]}"


def test_relatives_are_found(db: Path, tmp_path: Path) -> None:
    results = list(search(fasta(tmp_path / "q.fna", QUERIES), db))
    right = [result.hits[0].metadata["species"] == f"species {result.id[-1]}" for result in results]
    agreed = [
        result.consensus.get("species", RankCall("", 0)).name == f"species {result.id[-1]}"
        for result in results
    ]
    # The kinds differ in their letters alone and the encoder is untrained; by chance it would be one in six.
    assert np.mean(right) >= 0.9
    assert np.mean(agreed) >= 0.9


def test_neither_threads_nor_companions_nor_compression_change_an_answer(db: Path, tmp_path: Path) -> None:
    import gzip

    def written(path: Path, **settings: Any) -> str:
        stream = io.StringIO()
        write_tsv(search(path, db, **settings), stream)
        return stream.getvalue()

    path = fasta(tmp_path / "q.fna", QUERIES)
    whole = written(path, threads=1)
    assert written(path, threads=2) == whole
    assert written(fasta(tmp_path / "wide.fna", QUERIES, 100_000), threads=1) == whole
    (tmp_path / "q.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert written(tmp_path / "q.gz") == whole
    for number, (name, letters) in enumerate(list(QUERIES.items())[:5]):
        alone = written(fasta(tmp_path / "one.fna", {name: letters.lower()}))
        assert alone.splitlines()[1:] == whole.splitlines()[1 + 10 * number : 11 + 10 * number]


def test_profiles_and_embeddings_are_queries_too(db: Path, tmp_path: Path) -> None:
    from anndata import AnnData

    from kinmer.embedding import embed

    counts = KmerCounter(ENCODER.layout).count_sequences(list(QUERIES.values()))
    table = AnnData(counts.counts.astype(np.float32))
    table.obs_names, table.var_names = list(QUERIES), list(ENCODER.layout.features)
    table.obs["length"] = counts.lengths
    expected = list(search(fasta(tmp_path / "q.fna", QUERIES), db, k=3))
    assert list(search(table, db, k=3)) == expected
    embed(table, ENCODER)
    assert list(search(table, db, k=3)) == expected
    with pytest.raises(MismatchError):
        list(search(organisms(5, max_k=2), db))


def test_an_entry_asks_for_its_kin_and_never_gets_itself(db: Path) -> None:
    asked = [list(ENTRIES)[number] for number in (0, 7, 7, 100)]
    results = list(search_ids(db, asked, k=5))
    assert [result.id for result in results] == asked
    ids, _ = nearest(embedded({name: ENTRIES[name] for name in asked[:2]}), 6, "cosine")
    assert [hit.id for hit in results[1].hits] == [one for one in ids[1] if one != asked[1]][:5]
    assert results[1] == results[2]
    assert len(next(search_ids(db, asked, k=1000)).hits) == len(ENTRIES) - 1
    with pytest.raises(InputError, match="nobody"):
        search_ids(db, ["nobody"])


def test_queries_that_are_entries_can_leave_themselves_out(db: Path, tmp_path: Path) -> None:
    some = dict(list(ENTRIES.items())[:4])
    path = fasta(tmp_path / "q.fna", some)
    for result in search(path, db, k=2):
        assert result.hits[0].id == result.id
        assert result.hits[0].distance == 0
    for result in search(path, db, k=2, exclude_self=True):
        assert result.id not in [hit.id for hit in result.hits]
        assert len(result.hits) == 2


def test_an_open_index_stays_open(db: Path) -> None:
    with open_index(db) as index:
        assert list(search_ids(index, ["g1_0_kind0"])) == list(search_ids(index, ["g1_0_kind0"]))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b">protein\nMKVLEEF\n", r"record 1 \('protein'\)"),
        (b"@read\nACGT\n+\nIIII\n", "FASTQ"),
        (b"", "empty"),
    ],
)
def test_bad_queries_are_told_with_file_and_record(text: bytes, place: str, db: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.fna"
    path.write_bytes(text)
    with pytest.raises(SequenceError, match=place) as caught:
        list(search(path, db))
    assert "q.fna" in str(caught.value)


ODD = b">masked\n%s\n>%s\n%s\n>empty\n>short\nAC\n>%s\n%s\n>broken\nACNACNACN\n"
REASONS = {
    "masked": "no profile: no 3 letters of A, C, G and T in a row",
    "empty": "no profile: it has no letters",
    "short": "no profile: it is shorter than 3 letters",
    "broken": "no profile: no 3 letters of A, C, G and T in a row",
}


def odd_queries(path: Path) -> tuple[Path, list[str]]:
    """Good queries among such as have no profile, and the ids in their order."""
    (first, one), (second, two) = list(QUERIES.items())[:2]
    path.write_bytes(ODD % (b"N" * 50, first.encode(), one, second.encode(), two))
    return path, ["masked", first, "empty", "short", second, "broken"]


@pytest.mark.parametrize("rows", [1, 2, 1024])
def test_a_query_without_a_profile_says_so_and_ends_no_other(
    rows: int, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinmer.queries._search.BATCH_ROWS", rows)
    path, names = odd_queries(tmp_path / "q.fna")
    found = list(search(path, db, k=3, facets=["plasmid"]))
    assert [one.id for one in found] == names
    good = fasta(tmp_path / "good.fna", dict(list(QUERIES.items())[:2]))
    alone = {one.id: one for one in search(good, db, k=3, facets=["plasmid"])}
    for one in found:
        if one.id in alone:
            assert one == alone[one.id]
        else:
            assert (one.verdict, one.hits, one.rank, one.lineage) == (REASONS[one.id], (), None, ())
    only = tmp_path / "only.fna"
    only.write_bytes(b">masked\nNNNNNNN\n")
    assert [one.verdict for one in search(only, db)] == [REASONS["masked"]]


@pytest.mark.parametrize("form", ["tsv", "json", "jsonl", "calls", "blast"])
def test_every_format_has_a_row_for_a_query_without_a_profile(form: str, db: Path, tmp_path: Path) -> None:
    path, names = odd_queries(tmp_path / "q.fna")
    text = io.StringIO()
    assert writer_of(form)(search(path, db, k=1), text) == 6
    lines = text.getvalue().splitlines()
    if form in ("json", "jsonl"):
        rows = json.loads(text.getvalue()) if form == "json" else [json.loads(line) for line in lines]
        assert [row["query_id"] for row in rows] == names
        assert {row["query_id"]: row["verdict"] for row in rows if row["query_id"] in REASONS} == REASONS
        return
    fields = [line.split("\t") for line in lines]
    assert len({len(one) for one in fields}) == 1
    rows = fields[1:] if form in ("tsv", "calls") else fields
    assert [row[0] for row in rows] == names
    told = {row[0]: row[1 if form == "blast" else 2] for row in rows if row[0] in REASONS}
    assert told == {
        name: "_".join(reason.split()) if form == "blast" else reason for name, reason in REASONS.items()
    }
    if form == "tsv":
        # The columns of the metadata are there, though the first query has no hit to tell them.
        assert fields[0][-3:] == ["species", "genus", "note"]


def test_samples_count_queries_without_a_profile_apart(db: Path, tmp_path: Path) -> None:
    path, _ = odd_queries(tmp_path / "q.fna")
    text = io.StringIO()
    assert writer_of("krona")(search(path, db, k=1), text) == 6
    assert f"{50 + 0 + 2 + 9}\tno profile" in text.getvalue().splitlines()
    text = io.StringIO()
    assert writer_of("lineage")(search(path, db, k=1), text) == 6
    (line,) = [line for line in text.getvalue().splitlines() if line.endswith("no profile")]
    assert line.split("\t")[1:5] == ["61", "61", "4", "4"]


def test_short_queries_can_be_left_out(db: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.fna"
    path.write_bytes(b">short\nAC\n>good\nACGTACGTAA\n")
    said: list[str] = []
    assert [result.id for result in search(path, db, min_length=3, log=said.append)] == ["good"]
    assert said == ["1 queries shorter than 3 bases were left out"]
    with pytest.raises(SequenceError, match="no query"):
        list(search(path, db, min_length=11))


def test_wrong_settings_are_refused_at_once(db: Path, tmp_path: Path) -> None:
    path = fasta(tmp_path / "q.fna", QUERIES)
    with pytest.raises(UsageError):
        search(path, db, k=0)
    with pytest.raises(UsageError):
        search(path, db, metric="euclid")  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        search(path, tmp_path / "no.db")
    with pytest.raises(SequenceError, match="no such file"):
        list(search(tmp_path / "none.fna", db))
