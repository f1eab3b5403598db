"""Conditions on entries: what they select is what Python and pandas select, and nothing of them is run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import UsageError
from kinmer.where import compile_where

COLUMNS = ("id", "genome", "length", "gc", "genus", "class", "n copies")
Row = tuple[Any, ...]


def selected(expression: str, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> list[int]:
    """Numbers of the rows that SQLite selects; columns have types as in an index."""
    connection = sqlite3.connect(":memory:")
    types = {"id": " TEXT", "length": " INTEGER", "gc": " REAL", "genome": " TEXT"}
    quoted = ['"' + name.replace('"', '""') + '"' + types.get(name, "") for name in dict.fromkeys(columns)]
    connection.execute(f"CREATE TABLE t ({', '.join(quoted)})")
    connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(quoted))})", rows)
    sql, values = compile_where(expression, columns)
    told = connection.execute(f"SELECT rowid - 1, {sql} FROM t ORDER BY rowid", values).fetchall()
    connection.close()
    assert {one for _, one in told} <= {0, 1}
    return [number for number, holds in told if holds]


ROWS: list[Row] = [
    ("a", "G1", 500, 0.4, "Vibrio", "Gamma", "1"),
    ("b", "G1", 60_000, 0.5, None, "Gamma", "02"),
    ("c", "G2", 60_001, None, "vibrio", None, "many"),
    ("d", "G3", None, 0.6, "Bacillus", "it's", None),
]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('genus == "Vibrio"', "a"),
        ("genus == 'Vibrio' and length > 400", "a"),
        ('genus != "Vibrio"', "bcd"),
        ('not genus == "Vibrio"', "bcd"),
        ("genus is None", "b"),
        ("genus == None", "b"),
        ("genus is not None and gc is not None", "ad"),
        ("length > 500", "bc"),
        ("length >= 500.0", "abc"),
        ("not (length > 500)", "ad"),
        ("500 < length <= 6e4", "b"),
        ("60000 >= length", "ab"),
        ("gc < .5 or gc > .5", "ad"),
        ("gc != 0.5", "acd"),
        ('genus in ("Vibrio", "Bacillus")', "ad"),
        ('genus in ("Vibrio")', "a"),
        ('genus not in ["Vibrio", "Bacillus"]', "bc"),
        ('genus in (None, "Vibrio")', "ab"),
        ("genus in ()", ""),
        ("length in (500, 60001.0, -3)", "ac"),
        ('"ibri" in genus', "ac"),
        ('"ibri" not in genus', "bd"),
        ('genus.startswith("Vi")', "a"),
        ('not genus.startswith("Vi")', "bcd"),
        ('genus.str.endswith("rio")', "ac"),
        ('genus.endswith("")', "acd"),
        ('genus.contains("c")', "d"),
        ('genus.like("V_b%")', "ac"),
        ('class == "Gamma"', "ab"),
        ("class is None", "c"),
        ('class == "it\'s"', "d"),
        ("`n copies` == 2", "b"),
        ("`n copies` <= 2", "ab"),
        ("`n copies` != 2", "acd"),
        ('`n copies` == "2"', ""),
        ('`n copies` == "02"', "b"),
        ('`n copies` > "1"', "c"),  # as texts: "02" < "1" < "many"
        ("`n copies` in (1, 2)", "ab"),
        ("`n copies` < length", "ab"),
        ("GENUS == 'Vibrio'", "a"),
        ("  (id == 'a'\n or id == 'd')  ", "ad"),
        ("id == 'a' or id == 'b' and genus is None", "ab"),
    ],
)
def test_conditions_by_hand(expression: str, expected: str) -> None:
    assert "".join(ROWS[number][0] for number in selected(expression, ROWS)) == expected


# Values as tables of metadata, and AnnData, put them into an index; a text that is a number, and some that
# look as if they were.
VALUES = st.sampled_from(
    [
        None,
        "a",
        "b",
        "ab",
        "A",
        "é",
        "5",
        "05",
        "5.0",
        "-1",
        "1e1",
        "10",
        "5x",
        "0x5",
        "inf",
        "nan",
        "",
        "%",
        "_",
        5,
        -1,
        10,
        5.5,
        0,
        1 << 60,
    ]
)
CONSTANTS = st.sampled_from(["a", "b", "ab", "é", "5", "05", "", "%", "'", '"', "`", 5, -1, 10, 5.5, 1 << 60])


def number_of(value: Any) -> int | float | None:
    if value is None or isinstance(value, int | float):
        return value
    return {"5": 5, "05": 5, "5.0": 5, "-1": -1, "1e1": 10, "10": 10}.get(value)


def compared(left: Any, sign: str, right: Any) -> bool:
    if left is None or right is None:
        return sign == "!="
    if sign == "!=":
        return not compared(left, "==", right)
    signs = {
        "==": lambda a, b: a == b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return bool(signs[sign](left, right))


class Tree:
    """A condition as text, and what Python says it is for a row."""

    def __init__(self, text: str, holds: Any) -> None:
        self.text, self.holds = text, holds

    def __repr__(self) -> str:
        return self.text


SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
NAMES = st.sampled_from(["x", "class", "n copies"])
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def as_name(name: str) -> str:
    return f"`{name}`" if " " in name else name


def with_value(name: str, sign: str, value: Any, turned: bool) -> Tree:
    texts = f"{as_name(name)} {sign} {value!r}", f"{value!r} {TURNED[sign]} {as_name(name)}"
    of = (lambda one: None if one is None else str(one)) if isinstance(value, str) else number_of
    return Tree(texts[turned], lambda row: compared(of(row[name]), sign, value))


def with_column(name: str, sign: str, other: str) -> Tree:
    def holds(row: dict[str, Any]) -> bool:
        pair = row[name], row[other]
        numbers = [number_of(one) for one in pair]
        if None in numbers:
            return compared(_text(pair[0]), sign, _text(pair[1]))
        return compared(numbers[0], sign, numbers[1])

    return Tree(f"{as_name(name)} {sign} {as_name(other)}", holds)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def member(name: str, values: list[Any], negated: bool) -> Tree:
    def holds(row: dict[str, Any]) -> bool:
        found = any(with_value(name, "==", one, False).holds(row) for one in values)
        return found != negated

    return Tree(f"{as_name(name)} {'not in' if negated else 'in'} {values!r}", holds)


def method(name: str, called: str, text: str) -> Tree:
    def holds(row: dict[str, Any]) -> bool:
        value = _text(row[name])
        if value is None:
            return False
        return text in value if called == "contains" else bool(getattr(value, called)(text))

    return Tree(f"{as_name(name)}.{called}({text!r})", holds)


def missing(name: str, negated: bool) -> Tree:
    return Tree(
        f"{as_name(name)} is {'not ' if negated else ''}None", lambda row: (row[name] is None) != negated
    )


LEAVES = st.one_of(
    st.builds(with_value, NAMES, SIGNS, CONSTANTS, st.booleans()),
    st.builds(with_column, NAMES, SIGNS, NAMES),
    st.builds(member, NAMES, st.lists(CONSTANTS, max_size=3), st.booleans()),
    st.builds(
        method,
        NAMES,
        st.sampled_from(["startswith", "endswith", "contains"]),
        CONSTANTS.filter(lambda one: isinstance(one, str)),
    ),
    st.builds(missing, NAMES, st.booleans()),
)


def both(one: Tree, other: Tree) -> Tree:
    return Tree(f"({one}) and ({other})", lambda row: one.holds(row) and other.holds(row))


def either(one: Tree, other: Tree) -> Tree:
    return Tree(f"({one}) or ({other})", lambda row: one.holds(row) or other.holds(row))


def inverse(one: Tree) -> Tree:
    return Tree(f"not ({one})", lambda row: not one.holds(row))


TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(both, inner, inner) | st.builds(either, inner, inner) | st.builds(inverse, inner),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(TREES, st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12))
def test_selects_what_python_selects(tree: Tree, rows: list[Row]) -> None:
    columns = ("x", "class", "n copies")
    expected = [at for at, row in enumerate(rows) if tree.holds(dict(zip(columns, row, strict=True)))]
    assert selected(tree.text, rows, columns) == expected


PLAIN = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.floats(-10, 10) | st.none()), min_size=1, max_size=10
)


@settings(max_examples=150, deadline=None)
@given(
    PLAIN,
    st.sampled_from(
        [
            'genus == "a"',
            'genus != "a"',
            "gc < 1.5",
            "not gc < 1.5",
            "-2 <= gc < 3",
            'genus in ("a", "b") and gc >= 0',
            'genus not in ("a", "b") or gc > 5',
            'not (genus == "a" or gc <= 2)',
        ]
    ),
)
def test_selects_what_pandas_selects(rows: list[Row], expression: str) -> None:
    table = pd.DataFrame(rows, columns=["genus", "gc"]).astype({"genus": object, "gc": float})
    expected = table.query(expression, engine="python").index.tolist()
    assert selected(expression, rows, ("genus", "gc")) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "not a condition"),
        ("genus", "not a condition"),
        ("1", "not a condition"),
        ("genus = 'a'", "not a condition"),
        ("genus == 'a' && gc > 1", "not a condition"),
        ("(genus == 'a') & (gc > 1)", "and, or, not"),
        ("~(genus == 'a')", "and, or, not"),
        ("species == 'a'", "no column 'species'.*id, genome, length, gc, genus, class, n copies"),
        ("genus == Vibrio", "no column 'Vibrio'"),
        ("`no such` == 1", "no column 'no such'"),
        ("length == '500'", "length is a number"),
        ("genus == True", '== "True", or == 1'),
        ("genus == 1e999", "not a value"),
        ("genus == b'a'", "not a value"),
        ("genus == f'{genus}'", "not a value"),
        ("genus == -'a'", "not a value"),
        ("1 < 2", "not a column"),
        ("genus is 'a'", "None"),
        ("genus in class", "not a value"),
        ("genus.startswith(1)", "quotation marks"),
        ("genus.lower() == 'a'", "not a column"),
        ("genus.upper('a')", "startswith"),
        ("genus.startswith('a', 1)", "not a condition"),
        ("length + 1 > 5", "not a column"),
        ("genus == 'a' # and gc > 1", "behind #"),
        ("__import__('os').system('true')", "not a condition|calls"),
        ("(lambda: genus == 'a')()", "not a condition"),
        ("[1 for x in genus]", "not a condition"),
        ("genus == (x := 'a')", "not a value"),
        ("genus == '\\x00'", "letters that no value"),
        ("genus == '\\ud800'", "letters that no value"),
        ("genus == 'a'; gc == 1", "not a condition"),
        ("genus == 'a\x00'", "not a condition"),
        ("genus.like('" + "%a" * 600 + "')", "pattern"),
        ("(" * 300 + "gc == 1" + ")" * 300, "not a condition"),
        ("not " * 150 + "gc == 1", "not a condition|nested"),
        ("gc == " + "9" * 5000, "not a condition|not a value"),
        (" or ".join(["gc == 1"] * 1000), "900 values"),
        (" or ".join(["genus == class"] * 9000), "too long"),
    ],
)
def test_what_is_no_condition_is_told(expression: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        compile_where(expression, COLUMNS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800


TEXTS = st.text(alphabet=st.sampled_from([*list("'\"`;-()%_\\ax= \n#?"), "é", "💥"]), max_size=12)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_texts_are_values_and_never_sql(value: str, other: str) -> None:
    rows = [(value,), (other,), (None,)]
    expected = [at for at, (one,) in enumerate(rows) if one == value]
    assert selected(f"x == {value!r}", rows, ("x",)) == expected
    assert selected(f"x in [{value!r}]", rows, ("x",)) == expected
    assert 0 in selected(f"x.startswith({value!r}) and {value!r} in x", rows, ("x",))


@settings(max_examples=300, deadline=None)
@given(TEXTS.filter(lambda name: name.strip() and "`" not in name and "\n" not in name))
def test_names_of_columns_are_names_and_never_sql(name: str) -> None:
    assert selected(f"`{name}` == 'v'", [("v", 1), ("w", 1)], (name, "unlike anything")) == [0]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text(alphabet="abgcenus ()=<>!'\"`,.0123notrdi[]#\\", max_size=40))
def test_any_text_is_a_condition_or_a_usage_error(text: str) -> None:
    try:
        sql, values = compile_where(text, ("a", "b", "gc", "genus"))
    except UsageError:
        return
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a, b, gc REAL, genus)")
    connection.execute(f"SELECT * FROM t WHERE {sql}", values)
    connection.close()


def test_many_values_and_many_alternatives_are_within_sqlites_limits() -> None:
    rows = [(f"n{number}", number) for number in range(50)]
    names = ", ".join(f"'n{number}'" for number in range(40, 20_000))
    assert selected(f"id in ({names})", rows, ("id", "length")) == list(range(40, 50))
    numbers = ", ".join(str(number) for number in range(45, 20_000))
    assert selected(f"length not in ({numbers})", rows, ("id", "length")) == list(range(45))
    terms = " or ".join(f"length == {number}" for number in range(10, 800))
    assert selected(terms, rows, ("id", "length")) == list(range(10, 50))
    deep = "(" * 60 + "length == 3" + " or length == 4)" * 60
    assert selected(deep, rows, ("id", "length")) == [3, 4]


def test_numbers_beyond_sqlites_integers() -> None:
    assert selected(f"length < {10**30}", [("a", 5)], ("id", "length")) == [0]
    assert selected(f"id == {(1 << 62) + 1}", [(str((1 << 62) + 1),), (str(1 << 62),)], ("id",)) == [0]
