"""FHIRPath text -> syntax tree.

The grammar and its ANTLR parser are those of fhirpathpy; its own `parse` recovers silently from errors
(`name.` and `a b` pass), so the parser is driven here with a listener that raises.
Source: FHIRPath N1, https://hl7.org/fhirpath/N1/grammar.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


class PathSyntaxError(ValueError):
    """Text that is no FHIRPath; says the column and what was found there."""


@dataclass(frozen=True)
class Literal:
    """A literal of the System type `type` (boolean, integer, dateTime, …); its value as text."""

    type: str
    text: str


@dataclass(frozen=True)
class Empty:
    """`{}`"""


@dataclass(frozen=True)
class Quantity:
    """A number with a unit of UCUM, or a calendar duration such as `year`, which is written without quotes."""

    value: str
    unit: str
    calendar: bool


@dataclass(frozen=True)
class Constant:
    """`%name`"""

    name: str


@dataclass(frozen=True)
class Variable:
    """`$this`, `$index`, `$total`"""

    name: str


@dataclass(frozen=True)
class Member:
    """`base.name`; `base` is None at the start of a path."""

    base: Tree | None
    name: str


@dataclass(frozen=True)
class Call:
    """`base.name(args)`; `base` is None at the start of a path."""

    base: Tree | None
    name: str
    args: tuple[Tree, ...]


@dataclass(frozen=True)
class Indexer:
    """`base[index]`"""

    base: Tree
    index: Tree


@dataclass(frozen=True)
class Polarity:
    """`+x`, `-x`"""

    operator: str
    operand: Tree


@dataclass(frozen=True)
class Binary:
    """`left operator right`"""

    operator: str
    left: Tree
    right: Tree


@dataclass(frozen=True)
class TypeTest:
    """`operand is type`, `operand as type`"""

    operator: str
    operand: Tree
    type: str


Tree = Literal | Empty | Quantity | Constant | Variable | Member | Call | Indexer | Polarity | Binary | TypeTest


@cache
def parse(text: str) -> Tree:
    """Return the syntax tree of a FHIRPath expression.

    Raises:
        PathSyntaxError: the text is not an expression, whole.
    """
    return _tree(_parser(text).entireExpression().expression())


def _parser(text: str) -> Any:
    # Imported here: ANTLR and the generated parser take 0.15 s, which a run without views should not pay.
    from antlr4 import CommonTokenStream, InputStream
    from antlr4.error.ErrorListener import ErrorListener
    from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
    from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

    class Raising(ErrorListener):  # type: ignore[misc]
        def syntaxError(self, *args: Any) -> None:  # noqa: N802  ANTLR's name
            raise PathSyntaxError(f"not FHIRPath at column {args[3] + 1}: {args[4]}")

    lexer = FHIRPathLexer(InputStream(text))
    parser = FHIRPathParser(CommonTokenStream(lexer))
    # Both print to stderr by default, and go on.
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(Raising())
    return parser


def _tree(node: Any) -> Tree:
    kind = type(node).__name__.removesuffix("Context")
    children = list(node.getChildren())
    match kind:
        case "TermExpression" | "InvocationTerm" | "LiteralTerm":
            return _tree(children[0])
        case "ParenthesizedTerm":
            return _tree(children[1])
        case "ExternalConstantTerm":
            return Constant(_name(children[0].getChild(1)))
        case "InvocationExpression":
            return _invocation(children[2], _tree(children[0]))
        case "MemberInvocation" | "FunctionInvocation" | "ThisInvocation" | "IndexInvocation" | "TotalInvocation":
            return _invocation(node, None)
        case "IndexerExpression":
            return Indexer(_tree(children[0]), _tree(children[2]))
        case "PolarityExpression":
            return Polarity(children[0].getText(), _tree(children[1]))
        case "TypeExpression":
            return TypeTest(children[1].getText(), _tree(children[0]), children[2].getText())
        # All binary operators look alike in the tree: left, symbol, right.
        case _ if len(children) == 3 and kind.endswith("Expression"):
            return Binary(children[1].getText(), _tree(children[0]), _tree(children[2]))
        case _:
            return _literal(kind, node.getText())


def _invocation(node: Any, base: Tree | None) -> Tree:
    kind = type(node).__name__.removesuffix("Context")
    if kind == "MemberInvocation":
        return Member(base, _name(node))
    if kind == "FunctionInvocation":
        function = node.functn()
        arguments = function.paramList()
        args = tuple(_tree(arg) for arg in arguments.expression()) if arguments else ()
        return Call(base, _name(function.identifier()), args)
    return Variable(node.getText())


def _name(node: Any) -> str:
    text: str = node.getText()
    return _unescaped(text[1:-1]) if text[0] in "`'" else text


def _literal(kind: str, text: str) -> Tree:
    match kind:
        case "NullLiteral":
            return Empty()
        case "BooleanLiteral":
            return Literal("boolean", text)
        case "StringLiteral":
            return Literal("string", _unescaped(text[1:-1]))
        case "NumberLiteral":
            # 1.0 is a decimal and 1 an integer, whatever their values.
            return Literal("decimal" if "." in text else "integer", text)
        case "DateTimeLiteral":
            # Without the leading @; `@2015T` is a dateTime of the year only.
            return Literal("dateTime" if "T" in text else "date", text[1:].rstrip("T"))
        case "TimeLiteral":
            return Literal("time", text[2:])
        case _:
            return _quantity(text)


def _quantity(text: str) -> Quantity:
    found = re.fullmatch(r"([0-9.]+)\s*(?:'(.*)'|([a-z]+))", text, re.DOTALL)
    assert found is not None  # noqa: S101  as the grammar has it
    value, ucum, calendar = found.groups()
    # `years` and `year` are the same unit.
    return Quantity(value, calendar.removesuffix("s"), True) if calendar else Quantity(value, _unescaped(ucum), False)


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] == "u" else ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", character, text)
