"""`repeat` against a slow, obvious evaluator: recursion over dicts, one resource at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition, run_view

WORDS = st.sampled_from(["a", "b", '"', "\\", "}{", "{}}}", "é"])


def items(below: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    answers = st.fixed_dictionaries({"valueString": WORDS}, optional={"item": below})
    optional = {"text": WORDS, "item": below, "answer": st.lists(answers, min_size=1, max_size=2)}
    return st.lists(st.fixed_dictionaries({"linkId": WORDS}, optional=optional), min_size=1, max_size=3)


LEAVES = st.lists(st.fixed_dictionaries({"linkId": WORDS}), min_size=1, max_size=2)
RESPONSES = st.fixed_dictionaries(
    {"resourceType": st.just("QuestionnaireResponse")},
    optional={"item": st.recursive(LEAVES, items, max_leaves=8)},
)
PATHS = st.lists(st.sampled_from(["item", "answer.item", "answer", "item.item"]), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def step(node: dict[str, Any], path: str) -> list[dict[str, Any]]:
    nodes = [node]
    for name in path.split("."):
        nodes = [child for one in nodes for child in one.get(name, [])]
    return nodes


def traversal(node: dict[str, Any], paths: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        for child in step(node, path):
            found += [child, *traversal(child, paths)]
    return found


def ran(engine: DuckDBEngine, selects: list[dict[str, Any]], responses: list[dict[str, Any]]) -> list[list[Any]]:
    """The rows, behind each the number of its resource."""
    numbered = [{**response, "id": str(number)} for number, response in enumerate(responses)]
    key = {"column": [{"name": "id", "path": "id"}]}
    view = ViewDefinition.load({"resource": "QuestionnaireResponse", "select": [key, *selects]})
    frame = run_view(view, numbered, engine)
    found: list[list[Any]] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return sorted(found, key=lambda row: int(row[0]))  # stable: the order within a resource is as it came


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(responses=st.lists(RESPONSES, min_size=1, max_size=5), paths=PATHS, in_union=st.booleans())
def test_items_come_as_by_recursion(
    engine: DuckDBEngine, responses: list[dict[str, Any]], paths: list[str], *, in_union: bool
) -> None:
    repeat = {
        "repeat": paths,
        "column": [
            {"name": "n", "path": "%rowIndex"},
            {"name": "link", "path": "linkId"},
            {"name": "value", "path": "value.ofType(string)" if "answer" in paths else "text"},
        ],
    }
    value = "valueString" if "answer" in paths else "text"
    expected = []
    for number, response in enumerate(responses):
        found = traversal(response, paths)
        rows = [[str(number), n, node.get("linkId"), node.get(value)] for n, node in enumerate(found)]
        expected += rows * (2 if in_union else 1)
    assert ran(engine, [{"unionAll": [repeat, repeat]}] if in_union else [repeat], responses) == expected


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    responses=st.lists(RESPONSES, min_size=1, max_size=4),
    outer=st.sampled_from(["forEach", "forEachOrNull", "repeat"]),
    inner=PATHS.filter(lambda paths: set(paths) != {"answer"}),
)
def test_repeat_inside_an_iteration(
    engine: DuckDBEngine, responses: list[dict[str, Any]], outer: str, inner: list[str]
) -> None:
    column = [{"name": "a", "path": "linkId"}]
    below = {"repeat": inner, "column": [{"name": "b", "path": "linkId"}, {"name": "n", "path": "%rowIndex"}]}
    select = {outer: ["item"] if outer == "repeat" else "item", "column": column, "select": [below]}
    expected: list[list[Any]] = []
    for number, response in enumerate(responses):
        nodes = traversal(response, ["item"]) if outer == "repeat" else response.get("item", [])
        if outer == "forEachOrNull" and not nodes:
            expected.append([str(number), None, None, 0])
        for node in nodes:
            found = enumerate(traversal(node, inner))
            expected += [[str(number), node["linkId"], child.get("linkId"), n] for n, child in found]
    assert ran(engine, [select], responses) == expected
