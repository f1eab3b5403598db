"""Conditions on entries, such as ``molecule == "plasmid" and length > 50000``, as SQLite takes them.

A condition is read by Python's own parser and never evaluated: names become quoted columns, values become
parameters, and whatever is none of the forms below is refused. The language is that of `pandas.query`, with
and, or and not in the place of ``&``, ``|`` and ``~``:

- ``==  !=  <  <=  >  >=``, also ``1000 < length < 5000``, between columns and values;
- ``in ("a", "b")`` and ``not in``; ``"vib" in genus``: the text is part of the value;
- ``is None`` and ``is not None``: a value that is missing, or is not;
- ``genus.startswith("Vib")``, ``endswith``, ``contains``, and ``like("Vib%")``, where ``%`` is any text,
  ``_`` any letter, and a–z are A–Z;
- names with blanks or signs, and any others, between backticks.

Compared with a number, a value that is written as one is a number ("007" == 7), and any other is none: it is
neither less nor more, and differs from every number. Compared with a text, every value is a text. Two columns
are compared as numbers where both values are written as such, else as texts.

A missing value equals nothing and is neither less nor more than anything, and so differs from everything:
``genus != "Vibrio"`` and ``genus not in (…)`` hold where there is no genus, as in pandas. A condition holds
or does not; there is no third thing as in SQL.
"""

from __future__ import annotations

import ast
import json
import keyword
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kinmer.errors import UsageError

OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=",
    ast.NotEq: "<>",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
# These have no text that a comparison could mean.
NUMBERS = ("length", "gc")
WORDS = frozenset(("and", "or", "not", "in", "is", "None", "True", "False"))
# SQLite's own limits are 1000 levels, in old versions 999 parameters, and a million letters of SQL.
DEEPEST, MOST_PARAMETERS, LONGEST_PATTERN, LONGEST_SQL = 100, 900, 1000, 900_000
LONGEST = 1_000_000
NAMES_TOLD = 30
EXAMPLE = 'an example: molecule == "plasmid" and length > 50000'
# What other languages write, looked for between texts and names once a condition cannot be read.
HINTS = tuple(
    (re.compile(pattern), wrong, check)
    for pattern, wrong, check in (
        (r"[“”„‘’]", "these are not quotation marks here", """write "…" or '…'"""),
        (r"===", "=== is not a comparison", "write =="),
        (r"&&", "&& is not a word here", "write and"),
        (r"\|\|", "|| is not a word here", "write or"),
        (r"&", "& is not a word here", "write and"),
        (r"\|", "| is not a word here", "write or"),
        (r"<>", "<> is not a comparison", "write !="),
        (r"=>", "=> is not a comparison", "write >="),
        (r"=<", "=< is not a comparison", "write <="),
        (r"~", "~ is not a comparison", 'write genus.contains("Vib") or genus.like("Vib%")'),
        (r"(?<![=!<>])=(?!=)", "= is not a comparison", "write =="),
        (r"!(?!=)", "! is not a word here", "write not, or !="),
        (r"\b(?:AND|OR|NOT|IN|IS)\b", "and, or, not, in and is are written small", EXAMPLE),
        (r"(?i)\bbetween\b", "between is not a word here", "write 1000 < length < 5000"),
        (r"(?i)\bi?like\b", "like stands behind a point", 'write genus.like("Vib%")'),
        (
            r"\b(contains|startswith|endswith)\b(?!\()",
            "contains, startswith and endswith stand behind a point",
            'write genus.contains("Vib")',
        ),
        (r"(?i)\bnull\b", "null is not a word here", "write is None"),
        (
            r"(?i)\b\d+ ?[kmg]?(?:bp|b|k|m)\b",
            "a number has no unit here",
            "write bases, such as length > 5000",
        ),
        (r"\b\d{1,3}(?:,\d{3})+\b", "a number has no commas", "write 1000000"),
        (r";", "a semicolon has no meaning here", "leave it out"),
        (
            r"\w\s+(?!and\b|or\b|in\b|is\b|not\b)[^\W\d]\w*",
            "two words side by side",
            'a text is between quotation marks: species == "Vibrio cholerae"',
        ),
    )
)

# Strings are passed over; then names between backticks, and words.
# One that is never closed ends with the text: looking for its end behind every mark would take the square
# of the text's length.
_TOKEN = re.compile(
    r""""(?:[^"\\]|\\.)*+(?:"|\\?\Z)|'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|`([^`]*)`|(#)|(?<![\w.])([^\W\d]\w*)""",
    re.DOTALL,
)

Value = str | int | float


@dataclass(frozen=True)
class _Column:
    """A column, as SQL names it."""

    name: str
    sql: str

    @property
    def text(self) -> str:
        return f"CAST({self.sql} AS TEXT)"

    @property
    def number(self) -> str:
        # A comparison with a REAL makes numbers of texts that are written as numbers and of no others; and
        # any text is more than any number.
        return f"CASE WHEN {self.sql} <= CAST(9e999 AS REAL) THEN CAST({self.sql} AS NUMERIC) END"


def compile_where(expression: str, columns: Sequence[str]) -> tuple[str, list[object]]:
    """SQL text and parameters of a condition; see the module's text for its language.

    columns : names that may occur; upper and lower case are alike where that is clear. ``length`` and ``gc``
        are numbers.

    The SQL gives 1 or 0 for every line, never NULL. Raises UsageError, with the columns that there are, for
    an unknown one, and for anything that is not a condition.
    """
    if len(expression) > LONGEST:
        raise _wrong(expression, f"it is longer than {LONGEST:,} letters")
    sql, quoted = _with_names_replaced(expression, columns)
    try:
        with warnings.catch_warnings():
            # Of a backslash in a string that Python would rather see doubled.
            warnings.simplefilter("ignore")
            tree = ast.parse(sql, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong(expression, *_reason(expression, error)) from None
    compiler = _Compiler(expression, columns, quoted)
    try:
        found = compiler.condition(tree.body, 0)
    except RecursionError:
        raise _wrong(expression, "it is nested too deeply") from None
    if len(found) > LONGEST_SQL:
        raise _wrong(expression, "it is too long")
    return found, compiler.parameters


class _Compiler:
    def __init__(self, expression: str, columns: Sequence[str], quoted: dict[str, str]) -> None:
        self.expression, self.columns, self.quoted = expression, columns, quoted
        self.parameters: list[object] = []

    def condition(self, node: ast.expr, depth: int) -> str:
        """SQL, between parentheses, of what holds or does not."""
        if depth > DEEPEST:
            raise _wrong(self.expression, "it is nested too deeply")
        match node:
            case ast.BoolOp():
                word = "AND" if isinstance(node.op, ast.And) else "OR"
                return _balanced([self.condition(one, depth + 1) for one in node.values], word)
            case ast.UnaryOp(op=ast.Not()):
                return f"(NOT {self.condition(node.operand, depth + 1)})"
            case ast.Compare():
                sides = [node.left, *node.comparators]
                parts = [
                    self._comparison(sides[at], operator, sides[at + 1])
                    for at, operator in enumerate(node.ops)
                ]
                return _balanced(parts, "AND")
            case ast.Call():
                return self._call(node)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()) | ast.UnaryOp(op=ast.Invert()):
                raise self._error(
                    node, "is not a condition here", "write and, or, not in the place of &, |, ~"
                )
        hint = _hint(self.expression)
        raise self._error(node, "is not a condition", " · ".join(hint) if hint else EXAMPLE)

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str:
        if isinstance(operator, ast.In | ast.NotIn):
            return _negated(self._membership(left, right), isinstance(operator, ast.NotIn))
        if _is_none(left):
            left, right = right, left
        if _is_none(right) and isinstance(operator, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
            missing = not isinstance(operator, ast.IsNot | ast.NotEq)
            return f"({self._column(left).sql} IS {'' if missing else 'NOT '}NULL)"
        if isinstance(operator, ast.Is | ast.IsNot):
            raise self._error(right, "cannot stand after is", "is goes with None; use == or !=")
        sign = OPERATORS[type(operator)]
        if self._is_value(left):
            left, right, sign = right, left, TURNED[sign]
        column = self._column(left)
        if self._is_value(right):
            return self._with_value(column, sign, self._value(right, column))
        return _with_column(column, sign, self._column(right))

    def _with_value(self, column: _Column, sign: str, value: Value) -> str:
        of = column.text if isinstance(value, str) else column.number
        equal = _holds(f"{of} {'=' if sign == '<>' else sign} {self._bound(value)}")
        return _negated(equal, sign == "<>")

    def _membership(self, left: ast.expr, right: ast.expr) -> str:
        if self._is_value(left) and not self._is_value(right):
            column = self._column(right)
            return self._contains(column, self._text(left, column))
        column = self._column(left)
        # ("a") is no list in Python; whoever writes it means one.
        listed = right.elts if isinstance(right, ast.Tuple | ast.List | ast.Set) else [right]
        values = [self._value(one, column) for one in listed if not _is_none(one)]
        texts = [one for one in values if isinstance(one, str)]
        numbers = [one for one in values if not isinstance(one, str)]
        parts = [f"({column.sql} IS NULL)"] if any(_is_none(one) for one in listed) else []
        for of, some in ((column.text, texts), (column.number, numbers)):
            if some:
                # One parameter for any number of values.
                inside = f"SELECT value FROM json_each({self._bound(json.dumps(some))})"
                parts.append(_holds(f"{of} IN ({inside})"))
        return _balanced(parts, "OR") if parts else "(0)"

    def _call(self, node: ast.Call) -> str:
        methods: dict[str, Callable[[_Column, str], str]] = {
            "startswith": self._starts,
            "endswith": self._ends,
            "contains": self._contains,
            "like": self._like,
        }
        if not isinstance(node.func, ast.Attribute) or node.keywords or len(node.args) != 1:
            raise self._error(node, "is not a condition", EXAMPLE)
        if node.func.attr not in methods:
            known = ", ".join(methods)
            raise self._error(node, f"calls {node.func.attr!r}", f"there are {known}")
        of = node.func.value
        # As pandas has it: genus.str.startswith("Vib").
        if isinstance(of, ast.Attribute) and of.attr == "str":
            of = of.value
        column = self._column(of)
        return methods[node.func.attr](column, self._text(node.args[0], column))

    def _starts(self, column: _Column, text: str) -> str:
        return _holds(f"substr({column.text}, 1, {self._bound(len(text))}) = {self._bound(text)}")

    def _ends(self, column: _Column, text: str) -> str:
        if not text:
            return f"({column.sql} IS NOT NULL)"
        return _holds(f"substr({column.text}, {self._bound(-len(text))}) = {self._bound(text)}")

    def _contains(self, column: _Column, text: str) -> str:
        return _holds(f"instr({column.text}, {self._bound(text)}) > 0")

    def _like(self, column: _Column, text: str) -> str:
        if len(text) > LONGEST_PATTERN:
            raise UsageError(f"a pattern of {len(text):,} letters", f"the most is {LONGEST_PATTERN:,}")
        return _holds(f"{column.text} LIKE {self._bound(text)}")

    def _bound(self, value: object) -> str:
        if len(self.parameters) >= MOST_PARAMETERS:
            raise _wrong(self.expression, f"it has more than {MOST_PARAMETERS} values outside of lists")
        self.parameters.append(value)
        return "?"

    def _is_value(self, node: ast.expr) -> bool:
        return not isinstance(node, ast.Name | ast.Attribute | ast.Call)

    def _value(self, node: ast.expr, column: _Column) -> Value:
        """A number or a text that the column can be compared with."""
        value: object = None
        match node:
            case ast.Constant():
                value = node.value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as of)):
                value = None if isinstance(of, bool) else -of if isinstance(node.op, ast.USub) else of
        if isinstance(value, bool):
            raise self._error(
                node, "is not a value here", f'write {column.name} == "{value}", or == {value:d}'
            )
        if isinstance(value, str):
            if column.name.lower() in NUMBERS:
                raise self._error(
                    node, f"is a text, {column.name} is a number", "leave out the quotation marks"
                )
            return self._storable(node, value)
        if isinstance(value, int):
            value = value if -(1 << 63) <= value < 1 << 63 else _real(value)
        if isinstance(value, int | float) and math.isfinite(value):
            return value
        hint = _hint(self.expression) if isinstance(node, ast.BinOp) else None
        check = "a value is a number or a text between quotation marks; a column is a name"
        raise self._error(node, "is not a value", " · ".join(hint) if hint else check)

    def _text(self, node: ast.expr, column: _Column) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._storable(node, node.value)
        raise self._error(
            node, f"is not a text to look for in {column.name}", "a text is between quotation marks"
        )

    def _storable(self, node: ast.expr, text: str) -> str:
        # Half of a surrogate pair or a zero byte is in no table.
        if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise self._error(node, "has letters that no value can have")
        return text

    def _column(self, node: ast.expr) -> _Column:
        if not isinstance(node, ast.Name):
            raise self._error(
                node, "is not a column", f"names with blanks or signs go between backticks; {self._there()}"
            )
        name = self.quoted.get(node.id, node.id)
        found = _column_named(name, self.columns)
        if found is None:
            check = f"{self._there()}; a text is between quotation marks"
            raise UsageError(f"there is no column {name!r}", _in(self.expression), check)
        return _Column(found, '"' + found.replace('"', '""') + '"')

    def _there(self) -> str:
        names = list(dict.fromkeys(self.columns))
        more = f" and {len(names) - NAMES_TOLD:,} more" if len(names) > NAMES_TOLD else ""
        return f"the columns are {', '.join(names[:NAMES_TOLD])}{more}"

    def _error(self, node: ast.expr, what: str, check: str = "") -> UsageError:
        try:
            text = ast.unparse(node)
        except ValueError:
            # A number in hexadecimal digits may be longer than Python writes one.
            text = "the number"
        for place, name in self.quoted.items():
            text = text.replace(place, name)
        return UsageError(f"{_short(text)} {what}", _in(self.expression), check)


def _with_column(one: _Column, sign: str, other: _Column) -> str:
    equal = "=" if sign == "<>" else sign
    numbers = f"({one.number}) {equal} ({other.number})"
    sql = _holds(f"coalesce({numbers}, {one.text} {equal} {other.text})")
    return _negated(sql, sign == "<>")


def _holds(sql: str) -> str:
    """A comparison that does not hold where SQL says NULL."""
    return f"(coalesce({sql}, 0))"


def _negated(sql: str, negate: bool) -> str:
    return f"(NOT {sql})" if negate else sql


def _balanced(parts: list[str], word: str) -> str:
    """Conditions joined by AND or OR, nested no deeper than need be: SQLite has a limit."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_balanced(parts[:half], word)} {word} {_balanced(parts[half:], word)})"


def _with_names_replaced(expression: str, columns: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The expression with plain names for what is between backticks or is a word of Python, as ``class``."""
    stem = "_name"
    while stem in expression:
        stem += "_"
    quoted: dict[str, str] = {}

    def plain(token: re.Match[str]) -> str:
        name, comment, word = token.groups()
        if comment:
            raise _wrong(expression, "what stands behind # would not count")
        if word is not None and keyword.iskeyword(word) and word not in WORDS:
            name = word if _column_named(word, columns) is not None else None
        if name is None:
            return token[0]
        place = f"{stem}{len(quoted)}_"
        quoted[place] = name
        # Apart from letters before and behind.
        return f" {place} "

    return _TOKEN.sub(plain, " ".join(expression.split("\n"))).strip(), quoted


def _column_named(name: str, columns: Sequence[str]) -> str | None:
    if name in columns:
        return name
    alike = [one for one in dict.fromkeys(columns) if one.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _real(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _wrong(expression: str, reason: str, check: str = EXAMPLE) -> UsageError:
    return UsageError(f"{_short(expression)} is not a condition", reason, check)


def _reason(expression: str, error: Exception) -> tuple[str, str]:
    """Why an expression could not be parsed, and what to do; Python's own hints are about Python."""
    if (hint := _hint(expression)) is not None:
        return hint
    if not isinstance(error, SyntaxError):
        return "it cannot be parsed", EXAMPLE
    if "integer string conversion" in error.msg:
        return "a number is too long", EXAMPLE
    return error.msg.split(". ")[0], EXAMPLE


def _hint(expression: str) -> tuple[str, str] | None:
    bare = _TOKEN.sub(lambda token: token[0] if token[3] else '""', expression)
    return next(((wrong, check) for form, wrong, check in HINTS if form.search(bare)), None)


def _in(expression: str) -> str:
    return f"in the condition {_short(expression)}"


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}…"
