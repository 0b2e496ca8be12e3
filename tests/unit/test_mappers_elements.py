"""The table of R4 elements and the syntax of paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mappers.fhir_model import elements, elements_source
from mappers.fhirpath.syntax import Binary, Call, Indexer, Literal, Member, PathSyntaxError, Variable, parse


@pytest.mark.parametrize("release", elements.TABLES)
def test_the_table_is_that_of_the_models(release: elements.Release) -> None:
    committed = json.loads(Path(elements.__file__).with_name(elements.TABLES[release]).read_text("utf-8"))
    assert committed == elements_source.table(release)


def test_every_type_named_in_the_table_is_known() -> None:
    named = {
        kind.rstrip("*") for of in elements_source.table("R4").values() for t in of.values() for kind in t.split("|")
    }
    assert [name for name in sorted(named) if not elements.is_type(name)] == []


def test_elements_and_choices() -> None:
    assert elements.element("Patient", "name") == elements.Element("name", "HumanName", many=True)
    assert elements.element("Patient", "birthDate") == elements.Element("birthDate", "date", many=False)
    assert elements.element("Patient", "nam") is None
    choice = elements.element("Observation", "effective")
    assert isinstance(choice, elements.Choice)
    assert choice.options["Period"] == elements.Element("effectivePeriod", "Period", many=False)
    assert elements.choice_of("Observation", "valueQuantity") == "value.ofType(Quantity)"
    assert elements.is_resource("Patient")
    assert not elements.is_resource("HumanName")


def test_a_path_is_parsed_by_precedence() -> None:
    use = Binary("=", Member(None, "use"), Literal("string", "it's"))
    names = Call(Member(None, "name"), "where", (use,))
    assert parse("name.where(use = 'it\\'s')[0] = $this") == Binary(
        "=", Indexer(names, Literal("integer", "0")), Variable("$this")
    )
    assert parse("`div`.x") == Member(Member(None, "div"), "x")
    assert parse("@2024-01") == Literal("date", "2024-01")
    assert parse("@T12:00") == Literal("time", "12:00")


@pytest.mark.parametrize("text", ["", "@@", "name.", "a b", "name.where(", "a # b", "'open"])
def test_text_that_is_no_path(text: str) -> None:
    with pytest.raises(PathSyntaxError, match="not FHIRPath at column"):
        parse(text)
