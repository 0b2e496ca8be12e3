"""docs/fhirpath.md and the functions of the compiler say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mappers.errors import UnsupportedError
from mappers.fhirpath.core import CORE
from mappers.fhirpath.n1.language import N1
from mappers.view.language import LANGUAGE
from mappers.view.runner import ViewDefinition, sql

PAGE = (Path(__file__).parents[2] / "docs" / "fhirpath.md").read_text("utf-8")
SUPPORTED, NOT_SUPPORTED = PAGE.split("## Not supported")


def cells(part: str) -> str:
    """The first cells of the tables."""
    return "\n".join(line.split("|")[1] for line in part.splitlines() if line.startswith("| "))


def functions(part: str) -> set[str]:
    return set(re.findall(r"`([a-zA-Z]+)\(", cells(part)))


def test_the_page_lists_every_function_and_no_other() -> None:
    assert functions(SUPPORTED.split("## Functions")[1]) == set(LANGUAGE.functions)


def test_the_page_lists_what_is_not_supported() -> None:
    assert functions(NOT_SUPPORTED) == set(LANGUAGE.unsupported)


def test_the_page_lists_every_operator() -> None:
    table = cells(SUPPORTED.split("## Operators")[1].split("## Functions")[0]).replace("&#124;", "|")
    listed = set(re.findall(r"`([^`]+)`", table)) | {"|"}
    assert listed == set(LANGUAGE.operators) | {"is", "as"}


def test_no_function_is_both() -> None:
    assert not set(LANGUAGE.functions) & set(LANGUAGE.unsupported)


@pytest.mark.parametrize("name", sorted(LANGUAGE.unsupported))
def test_a_function_that_is_not_supported_says_so_and_why(name: str) -> None:
    view = {"resource": "Patient", "select": [{"column": [{"name": "a", "path": f"name.{name}()"}]}]}
    with pytest.raises(UnsupportedError) as caught:
        sql(ViewDefinition.load(view), keep=())
    assert str(caught.value) == f"select[0].column[0].path: {name}() is not supported: {LANGUAGE.unsupported[name]}"


def test_n1_replaces_of_the_core_only_what_it_extends_to_more_types() -> None:
    assert set(CORE.functions) & set(N1.functions) == {"lowBoundary", "highBoundary"}
    assert set(CORE.operators) & set(N1.operators) == {"=", "!=", "<", "<=", ">", ">="}
