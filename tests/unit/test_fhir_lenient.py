"""Documents of servers that hold other types than declared: what fits is kept, the rest is left out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.lenient import convert_leniently


class Inner(msgspec.Struct, rename="camel"):
    value_uri: str | None = None


class Outer(msgspec.Struct):
    name: str = "none"
    anything: object = 7
    inner: Inner = msgspec.field(default_factory=Inner)
    each: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    "value", [None, [], 7, "x", {}, {"name": 7, "inner": [], "each": {"valueUri": "x"}, "more": 1}]
)
def test_what_does_not_fit_is_left_out(value: object) -> None:
    assert convert_leniently(value, Outer) == Outer()


def test_what_fits_is_kept_under_the_names_of_the_document() -> None:
    value = {"name": "a", "anything": None, "inner": {"valueUri": "u"}, "each": [{"valueUri": "v"}, 7, None, {}]}
    assert convert_leniently(value, Outer) == Outer("a", None, Inner("u"), (Inner("v"), Inner()))


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rest", "mode", "resource", "type", "security", "extension", "url"]), inner)
    ),
    max_leaves=20,
)


@given(documents)
def test_any_document_is_a_statement_whose_parts_have_the_declared_types(document: Any) -> None:
    statement = convert_leniently(document, CapabilityStatement)
    assert msgspec.convert(msgspec.to_builtins(statement), CapabilityStatement) == statement
