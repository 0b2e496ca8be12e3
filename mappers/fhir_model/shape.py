"""The nested column types that a view needs: only the elements that its paths touch are read from the JSON.

A shape grows while paths are compiled and is then given to the engine twice: as an Ibis type and as the
structure literal of DuckDB's `from_json` (Spark's reading of it is in `engines.spark_json`). How elements are read:

- decimal, integer and boolean as text, so that a value of another type becomes null and not the number 1, 2 or true.
  A decimal keeps every digit: where one is touched, DuckDB reads the digits of numbers and not doubles. It becomes
  DECIMAL(38,18); beyond 20 digits before or 18 after the point, the value is null or rounded;
- everything else as text, dates too: a partial date survives;
- a complex element of which nothing is touched (`name.exists()`) as JSON text;
- a resource in a resource, and an element that `repeat` descends into, as JSON text too, with every digit of its
  numbers: their types have no end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

DECIMAL = dt.Decimal(38, 18)
DIGITS = "digits"
RESOURCE_TYPE = "Resource"  # a resource in a resource, of any type
NUMBER = "number"  # what is read so that DuckDB keeps the digits of all numbers; it stands for no element


@dataclass(eq=False)
class Shape:
    """The touched elements of one complex type, in the order of touching."""

    children: dict[str, tuple[str | Shape, bool]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)

    def touch_primitive(self, name: str, type_name: str, *, many: bool) -> None:
        """Note a primitive element, or a resource in the resource, which is read as JSON text."""
        self.children.setdefault(name, (type_name, many))
        if type_name in (RESOURCE_TYPE, "decimal"):
            self._keep_digits()

    def touch_complex(self, name: str, *, many: bool) -> Shape:
        """Note a complex element; its own shape is returned to be touched further."""
        # One shape however many paths touch the element: it is read once.
        child, _ = self.children.setdefault(name, (Shape(), many))
        assert isinstance(child, Shape)  # noqa: S101  an element has one type
        return child

    def touch_digits(self, name: str, *, many: bool) -> None:
        """Note a decimal of which the digits matter as they stand, trailing zeros too."""
        # In place of the decimal itself: both are read from the same text.
        self.children[name] = (DIGITS, many)
        self._keep_digits()

    def touch_text(self, name: str, *, many: bool) -> Shape:
        """Note a complex element that is to be read as JSON text; the shape is that of what is in the text."""
        self.texts.add(name)
        self._keep_digits()
        return self.touch_complex(name, many=many)

    def unite(self, other: Shape) -> None:
        """Let this shape and another grow as one, so that items of both fit into one column."""
        if other.children is self.children:
            return
        for name, (child, many) in other.children.items():
            own, _ = self.children.setdefault(name, (child, many))
            if isinstance(own, Shape) and isinstance(child, Shape):
                own.unite(child)
            elif child == DIGITS:
                self.children[name] = (child, many)
        self.texts |= other.texts
        other.children, other.texts = self.children, self.texts

    def is_text(self, name: str) -> bool:
        """Return whether a complex element is read as JSON text."""
        return name in self.texts

    def dtype(self) -> dt.DataType:
        """Return the Ibis type."""
        if not self.children:
            return dt.string
        return dt.Struct({name: self._dtype(name) for name in self.children})

    def literal(self) -> str:
        """Return the structure literal of DuckDB's `from_json`."""
        return json.dumps(self._structure(), separators=(",", ":"))

    def _structure(self) -> object:
        if not self.children:
            return "JSON"
        return {name: self._child(name) for name in self.children}

    def _dtype(self, name: str) -> dt.DataType:
        child, many = self.children[name]
        if isinstance(child, Shape):
            own = dt.string if name in self.texts else child.dtype()
        else:
            # Primitives come as text, see the top of this module.
            own = DECIMAL if child == NUMBER else dt.string
        return dt.Array(own) if many else own

    def _child(self, name: str) -> object:
        child, many = self.children[name]
        if isinstance(child, Shape):
            own = "JSON" if name in self.texts else child._structure()
        else:
            own = {NUMBER: "DECIMAL(38,18)", RESOURCE_TYPE: "JSON"}.get(child, "VARCHAR")
        return [own] if many else own

    def _keep_digits(self) -> None:
        """Note that the digits of all numbers matter."""
        # DuckDB keeps the digits of numbers only in a shape that reads some DECIMAL, of whatever key.
        self.children.setdefault("_digits", (NUMBER, False))


def from_json(text: ir.Value, shape: Shape) -> ir.Value:
    """Read JSON text into the touched elements; an element of the wrong type is null."""
    signature = ((dt.string, dt.string), shape.dtype())
    return ibis.udf.scalar.builtin(name="from_json", signature=signature)(_from_json)(text, shape.literal())


def object_from_json(text: Any, shape: Shape) -> ir.Value:
    """Read JSON text as `from_json` does; null where the text is no object."""
    return ibis.cases((text.startswith("{"), from_json(text, shape)))


def text_only(text: Any) -> ir.Value:
    """Return the text of a primitive: null where an object or array stands in its place and is read as its JSON."""
    valid = ibis.udf.scalar.builtin(name="json_valid", signature=((dt.string,), dt.boolean))(_json_valid)
    # Begins with [, { or a later character, as the mark of `mark_texts`, by its place in the order of texts. To look at
    # the first character makes a view of few columns 14 to 16 % slower (2026-11-30). What looks like JSON but is not is
    # a text: a name may begin with a bracket.
    suspicious = (text >= "[") & ((text < "]") | (text >= "{"))
    return ibis.cases((suspicious, unmarked(ibis.cases((valid(text), ibis.null(dt.string)), else_=text))), else_=text)


def mark_texts(resource: Any) -> Any:
    """Return the JSON of a resource with a mark before each text that is JSON itself, such as `"[1]"`.

    DuckDB reads an object or array in the place of a text as its JSON, which without the mark is the same text.
    """
    return ibis.udf.scalar.builtin(name="mark_texts", signature=((dt.string,), dt.string))(_mark_texts)(resource)


def unmarked(text: Any) -> Any:
    """Return a text without the mark of `mark_texts`."""
    return ibis.udf.scalar.builtin(name="unmarked", signature=((dt.string,), dt.string))(_unmarked)(text)


def _from_json(text: str, structure: str) -> Any: ...


def _json_valid(text: str) -> Any: ...


def _mark_texts(resource: str) -> Any: ...


def _unmarked(text: str) -> Any: ...
