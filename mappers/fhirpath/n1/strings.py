"""Functions of FHIRPath on strings (N1, 5.6; `trim`, `split`, `matchesFull`: FHIRPath, standard for trial use).

Each gives nothing where the string or an argument is empty, and ends the run where the string is not a single one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhirpath.arrays import Scope, Values, bind, map_items
from mappers.fhirpath.collection import Collection, kind, plain
from mappers.fhirpath.language import Args, Compiler, Function, Implementation

SINGLE_LINE = "(?s)"  # `.` stands for a line feed too
# Java has look-around, back references, possessive quantifiers and `&&` in a class, and RE2 has none of them; RE2 has
# classes of POSIX, names in `(?P<`, and braces that are plain text.
TOKEN = re.compile(
    r"\\[pPx]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|\{[0-9]+(?:,[0-9]*)?\}|\(\?(?:<(?=[=!])|.)?|.",
    re.DOTALL,
)
NOT_EVERYWHERE = re.compile(r"\\[1-9kGC]|\[.*(?:\[|&&).*\]|\(\?[=!>P<]|\{", re.DOTALL)
QUANTIFIER = re.compile(r"[*+?]|\{.+\}")


def on_text(
    name: str, result: str, work: Callable[..., ir.Value], arguments: tuple[str, ...] = (), *, many: bool = False
) -> Implementation:
    """Return a function of one string and of arguments whose kinds are given: `text` or `number`."""

    def function(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
        text = _single(compiler, f"{name}()", base, "text", depth)
        given = [
            _single(compiler, f"an argument of {name}()", compiler.compile(arg, focus, depth), wanted, depth)
            for arg, wanted in zip(args, arguments, strict=False)
        ]
        scope = Scope(depth, f"{name.lower()}_text")

        def make(values: Values) -> ir.Value:
            made = [one.make(values) for one in given]
            return bind(text.make(values).cast(dt.string), scope, lambda bound: work(bound, *made))

        return Collection(result, many, make, clean=True)

    return function


def _single(compiler: Compiler, what: str, found: Collection, wanted: str, depth: int) -> Collection:
    if found.choice or (found.type and kind(found.type) != wanted):
        said = "a string" if wanted == "text" else "an integer"
        raise compiler.error(f"{what} is {found.choice.name if found.choice else found.type}, and {said} is needed")
    one = plain(compiler.single(found, depth), depth)
    dtype = dt.string if wanted == "text" else dt.int64
    return Collection(one.type, False, lambda values: one.make(values).cast(dtype), literal=one.literal)


def _substring(text: Any, start: Any, size: Any | None = None) -> ir.Value:
    rest = text.length() - start
    wanted = rest if size is None else ibis.coalesce(size, rest)
    part = text.substr(ibis.greatest(start, 0), ibis.greatest(ibis.least(wanted, rest), 0))
    return ibis.cases(((start >= 0) & (start < text.length()), part))


def _replace(text: Any, pattern: Any, substitution: Any) -> ir.Value:
    # An empty pattern is found between all characters too, at both ends.
    characters = map_items(to_chars(text), Scope(0, "around"), lambda one: one.concat(substitution))
    around = substitution.concat(characters.join("").fill_null(""))
    return ibis.cases((pattern == "", around), else_=text.replace(pattern, substitution))


def to_chars(text: Any) -> Any:
    """Return the characters of a text, as texts."""
    places = ibis.range(0, text.length())
    return map_items(places, Scope(0, "place"), lambda place: text.substr(place, 1))


def regex(compiler: Compiler, name: str, args: Args, focus: Collection, depth: int) -> str:
    """Return the pattern of a function, a literal or a constant.

    Raises:
        ViewError: it is no regular expression.
        UnsupportedError: it is computed from data, or has what one of the engines does not have.
    """
    found = compiler.compile(args[0], focus, depth)
    if found.literal is None or kind(found.type) != "text":
        raise compiler.unsupported(f"{name}() with a pattern that is no string literal or constant")
    # The same view must give the same on both engines.
    tokens = TOKEN.findall(found.literal)
    possessive = [one for one, other in pairwise(tokens) if QUANTIFIER.fullmatch(one) and other == "+"]
    if uncommon := possessive or list(filter(NOT_EVERYWHERE.fullmatch, tokens)):
        raise compiler.unsupported(f"{name}() with {uncommon[0]!r}", "the engines do not read it alike")
    try:
        # RE2 has no Python of its own here; DuckDB's is the one that will run.
        with duckdb.connect() as engine:
            engine.execute("SELECT regexp_matches('', $1)", [found.literal])
    except duckdb.Error as error:
        reason = str(error).partition(": ")[2].splitlines()[0]
        raise compiler.error(f"{name}() takes a regular expression of RE2: {reason}") from error
    return found.literal


def matches(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return whether the pattern is found anywhere in the string."""
    pattern = SINGLE_LINE + regex(compiler, "matches", args, focus, depth)
    return on_text("matches", "boolean", lambda text: text.re_search(pattern))(compiler, base, (), focus, depth)


def matches_full(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return whether the pattern is the whole string."""
    pattern = f"{SINGLE_LINE}^(?:{regex(compiler, 'matchesFull', args, focus, depth)})$"
    return on_text("matchesFull", "boolean", lambda text: text.re_search(pattern))(compiler, base, (), focus, depth)


def replace_matches(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Replace each match; the substitution is plain text."""
    pattern = SINGLE_LINE + regex(compiler, "replaceMatches", args, focus, depth)
    found = compiler.compile(args[1], focus, depth)
    if found.literal is None or kind(found.type) != "text" or re.search(r"[$\\]", found.literal):
        raise compiler.unsupported("replaceMatches() with a substitution other than a literal without $ and \\")
    text = found.literal
    work = on_text("replaceMatches", "string", lambda value: value.re_replace(pattern, text))
    return work(compiler, base, (), focus, depth)


STRINGS: dict[str, Function] = {
    "indexOf": Function(on_text("indexOf", "integer", lambda text, part: text.find(part), ("text",)), 1, 1),
    "substring": Function(on_text("substring", "string", _substring, ("number", "number")), 1, 2),
    "startsWith": Function(on_text("startsWith", "boolean", lambda text, part: text.startswith(part), ("text",)), 1, 1),
    "endsWith": Function(on_text("endsWith", "boolean", lambda text, part: text.endswith(part), ("text",)), 1, 1),
    "contains": Function(on_text("contains", "boolean", lambda text, part: text.contains(part), ("text",)), 1, 1),
    "upper": Function(on_text("upper", "string", lambda text: text.upper())),
    "lower": Function(on_text("lower", "string", lambda text: text.lower())),
    "trim": Function(on_text("trim", "string", lambda text: text.re_replace(r"^\s+|\s+$", ""))),
    "length": Function(on_text("length", "integer", lambda text: text.length())),
    "replace": Function(on_text("replace", "string", _replace, ("text", "text")), 2, 2),
    "split": Function(on_text("split", "string", lambda text, part: text.split(part), ("text",), many=True), 1, 1),
    "toChars": Function(
        on_text("toChars", "string", lambda text: ibis.cases((text.notnull(), to_chars(text))), many=True)
    ),
    "matches": Function(matches, 1, 1),
    "matchesFull": Function(matches_full, 1, 1),
    "replaceMatches": Function(replace_matches, 2, 2),
}
