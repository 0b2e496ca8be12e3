"""Spark expressions that read JSON text into the touched elements of a shape, with the same result as DuckDB.

Spark's `from_json` alone would lose the digits of numbers (1.50 as text is 1.5), and a whole array for one item of a
wrong type. So the text is made ready first: every number becomes a string of its digits where digits matter, and a
string that begins like an object or array gets a mark, by which it is told apart from an object. Then each level of
objects is read with its complex elements as text, and these are read in turn.
"""

from __future__ import annotations

from typing import Any

import sqlglot.expressions as sge

Structure = str | list[Any] | dict[str, Any]  # as in the structure literal of DuckDB, `mappers.fhir_model.shape`

BACKSLASH, QUOTE, EDGE, MARK = "\x01", "\x02", "\x03", "\x04"  # JSON has no such characters outside of escapes
STRING_OR_NUMBER = r'("[^"]*+")|(-?[0-9][0-9.eE+-]*+)'
NUMBER = r"^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?\z"
OPTIONS = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
BROKEN = "?"  # no JSON: read as an object of nulls, as DuckDB reads what is no object


def read_json(text: sge.Expression, structure: Structure) -> sge.Expression:
    """SQL that reads JSON text; null for null, and nulls in the elements of a text that is no object."""
    if isinstance(structure, str):
        return text
    assert isinstance(structure, dict)  # noqa: S101
    return _where_given(_marked(text, digits="DECIMAL" in str(structure)), 0, structure)


def whole_json(column: str) -> str:
    """The condition that a text column is one whole JSON value: in a list with a 0 behind, it makes two items."""
    listed = _call("concat", _text("["), sge.column(column), _text(",0]"))
    items = _call("size", _call("from_json", listed, _text("ARRAY<STRING>"), _options()))
    return sge.EQ(this=_call("coalesce", items, _number(0)), expression=_number(2)).sql("spark")


def _options() -> sge.Expression:
    """JSON as the standard has it."""
    return _call("map", *(_text(part) for option in OPTIONS.items() for part in option))


def _marked(text: sge.Expression, *, digits: bool) -> sge.Expression:
    """JSON text with marked strings and, if `digits`, with its numbers as strings. Twice is the same as once."""
    ready: sge.Expression = sge.Trim(this=text, expression=_text(" \t\r\n"), position="LEADING")
    ready = _replaced(_replaced(ready, "\\\\", BACKSLASH), '\\"', QUOTE)
    if digits:
        ready = _call("regexp_replace", ready, _text(STRING_OR_NUMBER), _text(f"$1{EDGE}$2{EDGE}"))
        ready = _replaced(_replaced(ready, EDGE + EDGE, ""), EDGE, '"')
    for opening in "{[":
        ready = _replaced(ready, f'"{opening}', f'"\\u{ord(MARK):04x}{opening}')
    return _replaced(_replaced(ready, QUOTE, '\\"'), BACKSLASH, "\\\\")


def _where_given(text: sge.Expression, depth: int, structure: dict[str, Any]) -> sge.Expression:
    """The object in `text`, which is evaluated once; null where it is null."""
    name = sge.to_identifier(f"json{depth}", quoted=True)
    record = sge.Case(ifs=[sge.If(this=name.is_(sge.Not(this=sge.Null())), true=_object(name, structure, depth))])
    return _let(name, text, record)


def _object(text: sge.Expression, structure: dict[str, Any], depth: int) -> sge.Expression:
    record = sge.to_identifier(f"record{depth}", quoted=True)
    braced = sge.Case(ifs=[sge.If(this=_starts(text, "{"), true=text)], default=_text(BROKEN))
    parsed = _call("from_json", braced, _text(_fields(structure)), _options())
    made = []
    for name, child in structure.items():
        element = sge.Dot(this=record, expression=sge.to_identifier(name, quoted=True))
        made += [_text(name), _value(element, child, depth + 1)]
    return _let(record, parsed, _call("named_struct", *made))


def _fields(structure: dict[str, Any]) -> str:
    """Return the schema by which one level is read: texts, and arrays of texts."""
    types = {name: "ARRAY<STRING>" if isinstance(child, list) else "STRING" for name, child in structure.items()}
    return ", ".join(f"`{name}` {dtype}" for name, dtype in types.items())


def _value(text: sge.Expression, structure: Structure, depth: int) -> sge.Expression:
    """One element, from its text; of several items, from their texts."""
    match structure:
        case [child]:
            item = sge.to_identifier(f"item{depth}", quoted=True)
            return _call("transform", text, sge.Lambda(this=_value(item, child, depth), expressions=[item]))
        case dict():
            return _where_given(text, depth, structure)
        case "VARCHAR":
            nested = sge.Or(this=_starts(text, "{"), expression=_starts(text, "["))
            plain = sge.Trim(this=text, expression=_text(MARK), position="LEADING")
            return sge.Case(ifs=[sge.If(this=sge.Not(this=sge.Paren(this=nested)), true=plain)])
        case "JSON":
            return text
        case _:
            number = sge.TryCast(this=text, to=sge.DataType.build(str(structure), dialect="spark"))
            return sge.Case(ifs=[sge.If(this=_call("regexp_like", text, _text(NUMBER)), true=number)])


def _let(name: sge.Identifier, value: sge.Expression, body: sge.Expression) -> sge.Expression:
    """`body` with `name` for a value that is evaluated once."""
    return _call(
        "get", _call("transform", _call("array", value), sge.Lambda(this=body, expressions=[name])), _number(0)
    )


def _starts(text: sge.Expression, with_: str) -> sge.Expression:
    return _call("startswith", text, _text(with_))


def _replaced(text: sge.Expression, old: str, new: str) -> sge.Expression:
    return _call("replace", text, _text(old), _text(new))


def _call(name: str, *arguments: sge.Expression) -> sge.Expression:
    return sge.Anonymous(this=name, expressions=list(arguments))


def _text(value: str) -> sge.Literal:
    return sge.Literal.string(value)


def _number(value: int) -> sge.Expression:
    return sge.Literal.number(value)
