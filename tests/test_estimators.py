"""The scikit-learn face: what it asks of an estimator, votes against brute force, folders without pickles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.validation import validate_data

from kinmer import Encoder, KinmerClassifier, KinmerEncoder, embed
from kinmer.errors import FormatError, KinmerError, MismatchError, UsageError
from kinmer.estimators import RowError, SettingError
from kinmer.estimators.classifier import Neighbors
from kinmer.kmers import KmerCounter
from tests.organisms import encoder_of

ENCODER = encoder_of()
LETTERS = np.frombuffer(b"ACGT", np.uint8)


def sequences_of(kinds: int, each: int, *, length: int = 600, seed: int = 0) -> tuple[list[str], list[str]]:
    """Random sequences whose letters follow a table of each kind: what follows what."""
    rng = np.random.default_rng(seed)
    made, labels = [], []
    for kind in range(kinds):
        edges = rng.dirichlet(np.full(4, 0.7), 4).cumsum(axis=1)
        for _ in range(each):
            draws, codes = rng.random(length), np.zeros(length, np.int64)
            for i in range(1, length):
                codes[i] = min(3, int(np.searchsorted(edges[codes[i - 1]], draws[i])))
            made.append(LETTERS[codes].tobytes().decode())
            labels.append(f"kind {kind}")
    return made, labels


SEQUENCES, LABELS = sequences_of(4, 10)
GROUPS = [f"genome {number // 3}" for number in range(len(SEQUENCES))]


class NumbersAsLetters(KinmerEncoder):
    """A KinmerEncoder that writes numbers as DNA: scikit-learn's checks know only numbers."""

    def _rows(self, X: Any, *, reset: bool) -> list[str]:
        table = validate_data(self, X, dtype=np.float64, reset=reset)
        codes = np.ascontiguousarray(table + 0.0).view(np.uint8)[..., None] >> np.array([6, 4, 2, 0]) & 3
        return [LETTERS[row.ravel()].tobytes().decode() for row in codes]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


@parametrize_with_checks([KinmerClassifier(threads=1), NumbersAsLetters("kin-1-kmers", threads=1)])
def test_scikit_learns_own_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    """No expected failures: the classifier as it is, the encoder behind a translation of numbers."""
    check(estimator)


def test_the_encoder_is_passed_over_by_the_checks_as_all_that_read_text_are() -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(KinmerEncoder())
    tags = get_tags(KinmerEncoder())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit


def test_checks_of_array_api_input() -> None:
    """SciPy reads its switch when it is imported; without it this check skips itself."""
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input as check\n"
        "from kinmer import KinmerClassifier\n"
        "check('KinmerClassifier', KinmerClassifier(threads=1), array_namespace='numpy', "
        "expect_only_array_outputs=False)"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# -- KinmerEncoder


def test_vectors_are_those_of_kinmer_embed(tmp_path: Path) -> None:
    fasta = tmp_path / "a.fna"
    fasta.write_text("".join(f">s{number}\n{one}\n" for number, one in enumerate(SEQUENCES)))
    ENCODER.save(tmp_path / "encoder")
    embed(fasta, tmp_path / "encoder", output=tmp_path / "a.npy", min_length=0)
    wanted = np.load(tmp_path / "a.npy")
    made = KinmerEncoder(tmp_path / "encoder").fit_transform(SEQUENCES)
    assert made.dtype == np.float32
    assert np.array_equal(made, wanted)


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        pd.Series,
        lambda rows: pd.Series(rows, dtype="string"),
        lambda rows: pd.DataFrame({"sequence": rows}),
        np.array,
        lambda rows: np.array(rows, dtype=object),
        lambda rows: np.array(rows, dtype=object)[:, None],
        lambda rows: np.array([one.encode() for one in rows]),
        lambda rows: [[one] for one in rows],
        lambda rows: [one.lower().encode() for one in rows],
        lambda rows: [bytearray(one.replace("T", "u").encode()) for one in rows],
    ],
)
def test_all_shapes_of_text_give_the_same_vectors(wrap: Callable[[list[str]], Any]) -> None:
    encoder = KinmerEncoder(ENCODER).fit(wrap(SEQUENCES[:5]))
    assert np.array_equal(encoder.transform(wrap(SEQUENCES)), KinmerEncoder(ENCODER).transform(SEQUENCES))


@given(
    rows=st.lists(
        st.text("ACGTN", min_size=8, max_size=60).map(lambda one: "ACGT" + one), min_size=1, max_size=9
    ),
    batch=st.integers(1, 10),
)
@settings(deadline=None, max_examples=40)
def test_a_vector_depends_on_its_sequence_alone(rows: list[str], batch: int) -> None:
    made = KinmerEncoder(ENCODER, batch_size=batch, threads=1).transform(rows)
    counts = KmerCounter(ENCODER.layout).count_sequences([one.encode() for one in rows]).counts
    assert np.array_equal(made, ENCODER.embed(counts))


def test_batches_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long sequences are counted a few at a time; the vectors are the same."""
    wanted = KinmerEncoder(ENCODER).transform(SEQUENCES)
    monkeypatch.setattr("kinmer.estimators.transformer.LETTER_BYTES", 1500)
    assert np.array_equal(KinmerEncoder(ENCODER, threads=2).transform(SEQUENCES), wanted)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["ACGTACGT", "ACGJACGT"], "row 1: 'J' at position 4 is not a nucleotide code"),
        (["ACGTACGT", "ACGTACGT", "MKVLAEQ"], "row 2: 'L' at position 4"),
        (["ACGTACGT", "ACG\xe9"], "row 1: 'é' at position 4"),
        (["ACGTACGT", None], "row 1: it is of type NoneType, no sequence"),
        (["ACGTACGT", float("nan")], "row 1: it is NaN, no sequence"),
        (np.array(["ACGTACGT", 7], dtype=object), "row 1: it is of type int"),
        (["ACGTACGT", ""], "row 1: the sequence is empty"),
        (["ACGTACGT", "ACNGTNA"], "row 1: 0 3-mers"),
        ([["ACGTACGT", "ACGTACGT"]], r"shape \(1, 2\)"),
        ("ACGTACGT", "X is one text"),
        ([], "no sequences"),
        (np.zeros((3, 4)), "no sequences"),
        (None, "no sequences"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, None])
def test_what_is_no_sequence_is_named(rows: Any, told: str, batch_size: int | None) -> None:
    encoder = KinmerEncoder(ENCODER, batch_size=batch_size)
    with pytest.raises(ValueError, match=told) as caught:
        encoder.fit_transform(rows)
    assert isinstance(caught.value, RowError)
    assert isinstance(caught.value, KinmerError)
    assert "\n" not in str(caught.value)


def test_least_number_of_windows() -> None:
    rows = ["ACGTACGTNN", "ACGTACG"]
    KinmerEncoder(ENCODER, min_windows=5).fit_transform(rows)
    with pytest.raises(RowError, match=r"row 1: 5 3-mers .* at least 6"):
        KinmerEncoder(ENCODER, min_windows=6).fit_transform(rows)


@pytest.mark.parametrize(
    "given",
    [{"min_windows": 0}, {"batch_size": 0.5}, {"threads": -1}, {"threads": True}, {"encoder": 7}],
)
def test_settings_are_checked_by_fit(given: dict[str, Any]) -> None:
    for kind in (KinmerEncoder, KinmerClassifier):
        made = kind(**{"encoder": ENCODER, **given})
        with pytest.raises(SettingError, match=next(iter(given))):
            made.fit(SEQUENCES, LABELS)


def test_which_encoder(tmp_path: Path) -> None:
    """None is the newest in the box; a name and a folder are that one; there is no other."""
    rows = sequences_of(1, 2, length=2000)[0]
    newest = KinmerEncoder().fit(rows)
    assert newest.encoder_.name == "kin-2"
    assert np.array_equal(newest.transform(rows), KinmerEncoder("kin-2").transform(rows))
    with pytest.raises(FormatError, match="there is no encoder"):
        KinmerEncoder(tmp_path / "nothing").fit(rows)


def test_set_output_names_the_columns() -> None:
    encoder = KinmerEncoder(ENCODER).set_output(transform="pandas")
    frame = encoder.fit_transform(pd.Series(SEQUENCES, index=[f"s{i}" for i in range(len(SEQUENCES))]))
    assert list(frame.columns) == [f"kinmerencoder{i}" for i in range(ENCODER.dim)]
    assert frame.index[3] == "s3"
    assert np.array_equal(frame.to_numpy(), KinmerEncoder(ENCODER).transform(SEQUENCES))


def test_a_column_of_a_table() -> None:
    table = pd.DataFrame({"length": [len(one) for one in SEQUENCES], "sequence": SEQUENCES})
    made = make_column_transformer((KinmerEncoder(ENCODER), "sequence"), ("passthrough", ["length"]))
    columns = made.fit_transform(table)
    assert np.array_equal(columns[:, :-1].astype(np.float32), KinmerEncoder(ENCODER).transform(SEQUENCES))
    assert made.get_feature_names_out()[-1] == "passthrough__length"


# -- KinmerClassifier


def votes(
    vectors: NDArray[Any],
    labels: list[str],
    query: NDArray[Any],
    k: int,
    temperature: float,
    groups: list[str],
) -> dict[str, float]:
    """Shares of the votes by the definition, in double precision and plain loops."""
    best: dict[str, tuple[float, int]] = {}
    for row, vector in enumerate(vectors.astype(np.float64)):
        asked = query.astype(np.float64)
        far = 1 - vector @ asked / np.linalg.norm(vector) / np.linalg.norm(asked)
        best[groups[row]] = min(best.get(groups[row], (np.inf, -1)), (far, row))
    nearest = sorted(best.values())[:k]
    weights = {row: np.exp(-(far - nearest[0][0]) / temperature) for far, row in nearest}
    total = sum(weights.values())
    shares: dict[str, float] = {}
    for row, weight in weights.items():
        shares[labels[row]] = shares.get(labels[row], 0.0) + weight / total
    return shares


@given(seed=st.integers(0, 999), k=st.integers(1, 12), grouped=st.booleans(), temperature=st.floats(0.01, 3))
@settings(deadline=None, max_examples=40)
def test_votes_are_those_of_brute_force(seed: int, k: int, grouped: bool, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = rng.normal(size=(30, 5)), rng.normal(size=(4, 5))
    labels = [f"kind {one}" for one in rng.integers(0, 4, 30)]
    groups = [str(one) for one in (rng.integers(0, 6, 30) if grouped else range(30))]
    made = KinmerClassifier(n_neighbors=k, temperature=temperature)
    made.fit(vectors, labels, groups=groups if grouped else None)
    shares = made.predict_proba(queries)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for query, row, best in zip(queries, shares, made.predict(queries), strict=True):
        wanted = votes(vectors, labels, query, k, temperature, groups)
        np.testing.assert_allclose(row, [wanted.get(one, 0.0) for one in made.classes_], atol=2e-4)
        assert best == made.classes_[np.argmax(row)]


def test_neighbours_of_few_groups_among_many_rows() -> None:
    """One group has nearly all rows and is nearest: those of the others are found behind it."""
    rng = np.random.default_rng(1)
    crowd = np.array([1, 0, 0]) + 0.01 * rng.normal(size=(500, 3))
    others = np.array([[0, 1, 0], [0, 0, 1], [-1, 0, 0]], dtype=float)
    made = KinmerClassifier(n_neighbors=9, engine="exact")
    made.fit(np.vstack([crowd, others]), ["crowd"] * 500 + ["a", "b", "c"], groups=[0] * 500 + [1, 2, 3])
    far, rows = made.kneighbors([[1.0, 0.2, 0.1]])
    assert rows[0, 1:4].tolist() == [500, 501, 502]
    assert rows[0, 4:].tolist() == [-1] * 5
    assert np.isinf(far[0, 4:]).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_the_graph_finds_what_looking_at_all_finds(grouped: bool) -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(40, 16))
    vectors = (centres[rng.integers(0, 40, 3000)] + 0.3 * rng.normal(size=(3000, 16))).astype(np.float32)
    queries = vectors[:200] + 0.05 * rng.normal(size=(200, 16)).astype(np.float32)
    queries[0] = 0
    groups = rng.integers(0, 900, 3000) if grouped else None
    exact = Neighbors(vectors, groups, "exact", 1).nearest(queries, 10)
    graph = Neighbors(vectors, groups, "hnsw", 1).nearest(queries, 10)
    there = exact[0] == graph[0]
    assert there.mean() > 0.999
    assert np.array_equal(exact[1][there], graph[1][there])


def test_sequences_and_their_vectors_give_the_same_votes() -> None:
    train, test = slice(0, None, 2), slice(1, None, 2)
    vectors = KinmerEncoder(ENCODER).transform(SEQUENCES)
    by_text = KinmerClassifier(ENCODER).fit(SEQUENCES[train], LABELS[train], groups=GROUPS[train])
    by_vector = KinmerClassifier().fit(vectors[train], LABELS[train], groups=GROUPS[train])
    wanted = by_text.predict_proba(SEQUENCES[test])
    assert by_text.score(SEQUENCES[test], LABELS[test]) > 0.9
    assert np.array_equal(by_vector.predict_proba(vectors[test]), wanted)
    assert np.array_equal(by_text.predict_proba(vectors[test]), wanted)
    assert by_vector.n_features_in_ == ENCODER.dim
    assert not hasattr(by_text, "n_features_in_")
    with pytest.raises(RowError, match="fitted on vectors"):
        by_vector.predict(SEQUENCES)
    with pytest.raises(ValueError, match="do not fit 8 dimensions"):
        by_text.predict(vectors[:, :5])
    by_vector.fit(SEQUENCES[:4], LABELS[:4])
    assert not hasattr(by_vector, "n_features_in_")


def test_in_a_pipeline_a_search_and_a_cross_validation() -> None:
    pipe = make_pipeline(KinmerEncoder(ENCODER, threads=1), KinmerClassifier())
    assert cross_val_score(pipe, SEQUENCES, LABELS, groups=GROUPS, cv=GroupKFold(3)).mean() > 0.9
    direct = KinmerClassifier(ENCODER, threads=1)
    search = GridSearchCV(direct, {"n_neighbors": [1, 3], "temperature": [0.01, 0.1]}, cv=3, n_jobs=2)
    search.fit(np.array(SEQUENCES, dtype=object), LABELS)
    assert search.best_score_ > 0.9
    shuffled = np.random.default_rng(0).permutation(LABELS)
    assert cross_val_score(pipe, SEQUENCES, shuffled, cv=3).mean() < 0.6
    linear = make_pipeline(KinmerEncoder(ENCODER), LogisticRegression(max_iter=1000))
    assert linear.fit(SEQUENCES, LABELS).score(SEQUENCES, LABELS) > 0.9


@pytest.mark.parametrize("kind", [KinmerEncoder, KinmerClassifier])
def test_a_clone_has_the_settings_and_nothing_learnt(kind: type[Any]) -> None:
    made = kind("kin-1", threads=1, min_windows=7).fit(SEQUENCES, LABELS)
    twin = clone(made)
    assert twin.get_params() == made.get_params()
    assert not hasattr(twin, "encoder_")


def test_an_unfitted_classifier_says_so(tmp_path: Path) -> None:
    for call in (KinmerClassifier().predict, KinmerClassifier().kneighbors):
        with pytest.raises(NotFittedError):
            call(SEQUENCES)
    with pytest.raises(NotFittedError):
        KinmerClassifier().save(tmp_path / "kin")


@pytest.mark.parametrize(
    ("y", "groups", "told"),
    [
        (LABELS[:-1], None, "inconsistent numbers of samples"),
        (LABELS, GROUPS[1:], "inconsistent numbers of samples"),
        (np.linspace(0, 1, len(LABELS)), None, "Unknown label type"),
        (None, None, "requires y to be passed"),
    ],
)
def test_labels_that_cannot_be_learnt(y: Any, groups: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        KinmerClassifier(ENCODER).fit(SEQUENCES, y, groups=groups)


def test_vectors_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match="row 2: a vector holds a value that is not a number, or too large"):
        KinmerClassifier().fit([[1.0, 2.0], [1e60, 1.0]], [0, 1])


# -- folders


def fitted(engine: str = "auto") -> KinmerClassifier:
    return KinmerClassifier(ENCODER, n_neighbors=4, temperature=0.1, engine=engine).fit(
        SEQUENCES, LABELS, groups=GROUPS
    )


@pytest.mark.parametrize("engine", ["auto", "hnsw"])
def test_a_saved_classifier_answers_the_same(tmp_path: Path, engine: str) -> None:
    made = fitted(engine)
    made.save(tmp_path / "kin")
    moved = (tmp_path / "kin").rename(tmp_path / "moved")
    back = KinmerClassifier.load(moved)
    assert np.array_equal(back.predict_proba(SEQUENCES), made.predict_proba(SEQUENCES))
    assert back.get_params() == {**made.get_params(), "encoder": str(moved / "encoder")}
    assert clone(back).fit(SEQUENCES, LABELS).encoder_.fingerprint == ENCODER.fingerprint
    names = {path.name for path in moved.rglob("*") if path.is_file()}
    assert names == {
        "model.json",
        "arrays.safetensors",
        "config.json",
        "weights.safetensors",
        "metrics.jsonl",
        "card.md",
    }
    with pytest.raises(UsageError, match="exists already"):
        made.save(moved)
    back.save(moved, force=True)
    assert np.array_equal(
        KinmerClassifier.load(moved).predict_proba(SEQUENCES), made.predict_proba(SEQUENCES)
    )


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2],
        [0.0, 1.0, 2.0],
        [True, False, True],
        ["a", "b", "ü"],
        np.array(["a", "b", "long name"], dtype=object),
        np.array([7, 200, 9], dtype=np.uint8),
    ],
)
def test_labels_and_columns_come_back_with_their_types(tmp_path: Path, labels: Any) -> None:
    vectors = pd.DataFrame(np.eye(3), columns=["x", "y", "z"])
    made = KinmerClassifier("kin-1").fit(vectors, labels)
    made.save(tmp_path / "kin")
    back = KinmerClassifier.load(tmp_path / "kin")
    assert back.classes_.dtype == made.classes_.dtype
    assert np.array_equal(back.predict(vectors), made.predict(vectors))
    assert back.feature_names_in_.tolist() == ["x", "y", "z"]
    assert back.encoder == "kin-1"
    with pytest.raises(ValueError, match="feature names"):
        back.predict(vectors[["y", "x", "z"]])


def test_labels_that_json_cannot_hold_leave_nothing(tmp_path: Path) -> None:
    made = KinmerClassifier().fit(
        np.eye(3), np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype="datetime64[D]")
    )
    with pytest.raises(SettingError, match="cannot be saved"):
        made.save(tmp_path / "kin")
    assert not list(tmp_path.iterdir())


def test_a_saved_encoder(tmp_path: Path) -> None:
    made = KinmerEncoder(ENCODER, min_windows=3, batch_size=2)
    made.save(tmp_path / "enc")
    back = KinmerEncoder.load(tmp_path / "enc")
    assert np.array_equal(back.transform(SEQUENCES), made.transform(SEQUENCES))
    assert (back.min_windows, back.batch_size) == (3, 2)
    with pytest.raises(MismatchError, match="a KinmerEncoder, not a KinmerClassifier"):
        KinmerClassifier.load(tmp_path / "enc")


def test_nothing_but_an_estimator_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no estimator"):
        KinmerEncoder(ENCODER).save(tmp_path / "data", force=True)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"


def test_every_damage_is_an_error(tmp_path: Path) -> None:
    """A byte changed, a file cut short, emptied or gone: FormatError, or the same answers."""
    fitted().save(tmp_path / "kin")
    wanted = fitted().predict_proba(SEQUENCES[:3])
    rng = np.random.default_rng(0)
    files = sorted(
        path.relative_to(tmp_path / "kin") for path in (tmp_path / "kin").rglob("*") if path.is_file()
    )
    for number in range(120):
        name = files[number % len(files)]
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "kin", tmp_path / "bad")
        path = tmp_path / "bad" / name
        data = bytearray(path.read_bytes())
        kind = number // len(files) % 4
        if kind == 0:
            path.write_bytes(data[: rng.integers(len(data))])
        elif kind == 1:
            path.unlink()
        else:
            at = int(rng.integers(len(data)))
            data[at] ^= 1 << int(rng.integers(8)) if kind == 2 else 255
            path.write_bytes(data)
        try:
            back = KinmerClassifier.load(tmp_path / "bad")
        except FormatError:
            continue
        # Neither the card nor the log of the training decides on a vector.
        assert name.name in ("card.md", "metrics.jsonl", "config.json"), f"{name} is damaged unnoticed"
        assert np.array_equal(back.predict_proba(SEQUENCES[:3]), wanted)


def test_a_file_that_was_changed_on_purpose(tmp_path: Path) -> None:
    fitted().save(tmp_path / "kin")
    model = tmp_path / "kin" / "model.json"
    told = json.loads(model.read_text())
    told["settings"]["temperature"] = 0.04
    model.write_text(json.dumps(told))
    with pytest.raises(FormatError, match="checksum"):
        KinmerClassifier.load(tmp_path / "kin")
    told["format"] = 2
    model.write_text(json.dumps(told))
    with pytest.raises(FormatError, match="format 2"):
        KinmerClassifier.load(tmp_path / "kin")
    shutil.rmtree(tmp_path / "kin" / "encoder")
    encoder_of(seed=5).save(tmp_path / "kin" / "encoder")
    with pytest.raises(FormatError):
        KinmerClassifier.load(tmp_path / "kin")


def test_another_encoder_is_not_taken(tmp_path: Path) -> None:
    fitted().save(tmp_path / "kin")
    shutil.rmtree(tmp_path / "kin" / "encoder")
    encoder_of(seed=5).save(tmp_path / "kin" / "encoder")
    with pytest.raises(MismatchError, match="encoder"):
        KinmerClassifier.load(tmp_path / "kin")


@pytest.mark.parametrize("engine", ["auto", "hnsw"])
def test_joblib_keeps_a_fitted_one_too(tmp_path: Path, engine: str) -> None:
    """Pickles are scikit-learn's own way, between processes; the graph is built again."""
    joblib.dump(fitted(engine), tmp_path / "kin.joblib")
    back = joblib.load(tmp_path / "kin.joblib")
    assert np.array_equal(back.predict_proba(SEQUENCES), fitted().predict_proba(SEQUENCES))


def test_without_scikit_learn_the_error_names_the_extra() -> None:
    code = (
        "import sys, importlib.machinery\n"
        "find = importlib.machinery.PathFinder.find_spec\n"
        "def without(name, *rest): return None if name == 'sklearn' else find(name, *rest)\n"
        "importlib.machinery.PathFinder.find_spec = without\n"
        "import kinmer\n"
        "from kinmer.errors import UsageError\n"
        "try: kinmer.KinmerEncoder\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'kinmer[sklearn]'" in done.stdout


def test_the_encoder_of_a_loaded_one_is_an_encoder(tmp_path: Path) -> None:
    fitted().save(tmp_path / "kin")
    assert Encoder.load(tmp_path / "kin" / "encoder").fingerprint == ENCODER.fingerprint
