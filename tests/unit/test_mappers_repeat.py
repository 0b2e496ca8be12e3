"""`repeat` and `%rowIndex`: rows worked out by hand from the specification."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mappers.engines.duckdb import DuckDBEngine
from mappers.errors import UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view, sql

LINK = {"name": "link", "path": "linkId"}
INDEX = {"name": "n", "path": "%rowIndex"}
# 1 ── 1.1 ── (answer) 1.1.1, 1.1.2 ── 1.1.2.1      2
RESPONSE = {
    "resourceType": "QuestionnaireResponse",
    "item": [
        {
            "linkId": "1",
            "item": [
                {
                    "linkId": "1.1",
                    "answer": [
                        {"valueString": "a", "item": [{"linkId": "1.1.1"}]},
                        {
                            "valueDecimal": Decimal("1.50"),
                            "item": [{"linkId": "1.1.2", "item": [{"linkId": "1.1.2.1"}]}],
                        },
                    ],
                }
            ],
        },
        {"linkId": "2"},
    ],
}


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def rows(engine: DuckDBEngine, *select: dict[str, Any], resource: dict[str, Any] = RESPONSE) -> list[list[Any]]:
    view = ViewDefinition.load({"resource": resource["resourceType"], "select": list(select)})
    frame = run_view(view, [resource], engine)
    found: list[list[Any]] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return found


def links(engine: DuckDBEngine, *repeat: str, resource: dict[str, Any] = RESPONSE) -> list[Any]:
    return [row[0] for row in rows(engine, {"repeat": list(repeat), "column": [LINK]}, resource=resource)]


def response(*items: Any) -> dict[str, Any]:
    return {"resourceType": "QuestionnaireResponse", "item": list(items)}


def test_a_parent_comes_before_its_children_and_a_path_before_the_next(engine: DuckDBEngine) -> None:
    assert links(engine, "item", "answer.item") == ["1", "1.1", "1.1.1", "1.1.2", "1.1.2.1", "2"]
    assert links(engine, "item") == ["1", "1.1", "2"]
    both = response({"linkId": "a", "answer": [{"item": [{"linkId": "c"}]}], "item": [{"linkId": "b"}]})
    assert links(engine, "item", "answer.item", resource=both) == ["a", "b", "c"]
    assert links(engine, "answer.item", "item", resource=both) == ["a", "c", "b"]


def test_two_paths_to_one_item_give_it_twice(engine: DuckDBEngine) -> None:
    assert links(engine, "item", "item", resource=response({"linkId": "a"})) == ["a", "a"]


def test_a_path_that_no_type_on_the_way_has_leads_nowhere(engine: DuckDBEngine) -> None:
    """A response has no answer, so nothing stands at the first step of this one."""
    assert links(engine, "answer.item") == []
    nothing = {"repeat": ["jurisdiction"], "column": [{"name": "url", "path": "extension('x').url"}]}
    assert rows(engine, {"column": [{"name": "id", "path": "id"}]}, nothing) == []
    deeper = {"repeat": ["jurisdiction"], "select": [{"forEach": "coding", "column": [LINK]}]}
    assert rows(engine, deeper) == []


def test_any_depth(engine: DuckDBEngine) -> None:
    item: dict[str, Any] = {"linkId": "120"}
    for number in range(119, -1, -1):
        item = {"linkId": str(number), "item": [item]}
    assert links(engine, "item", resource=response(item)) == [str(number) for number in range(121)]


def test_braces_and_quotes_in_texts_do_not_hide_a_level(engine: DuckDBEngine) -> None:
    item: dict[str, Any] = {"linkId": "4"}
    for number, text in enumerate(['}}}}"}', '\\"}}}}\\', "}\n}}}}", "{"]):
        item = {"linkId": str(3 - number), "text": text, "item": [item]}
    assert links(engine, "item", resource=response(item)) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("wrong", ['{"linkId": "x"}', "{", 1, True, None, ["x"], [{"linkId": "x"}]])
def test_an_item_that_is_no_object_is_no_row(engine: DuckDBEngine, wrong: object) -> None:
    assert links(engine, "item", resource=response({"linkId": "a", "item": [wrong, {"linkId": "b"}]})) == ["a", "b"]


@pytest.mark.parametrize("wrong", [{"linkId": "x"}, "x", [], {}])
def test_no_list_of_items_is_no_row(engine: DuckDBEngine, wrong: object) -> None:
    assert links(engine, "item", resource=response({"linkId": "a", "item": wrong})) == ["a"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("item.where(linkId = '1' or linkId = '1.1')", ["1", "1.1"]),
        ("item.where(item.exists())", ["1"]),
        ("item.first()", ["1", "1.1"]),
        ("item[1]", ["2"]),
        ("$this.item", ["1", "1.1", "2"]),
        ("QuestionnaireResponse.item", ["1", "2"]),
        ("item.extension('urn:x')", []),
    ],
)
def test_a_path_may_choose(engine: DuckDBEngine, path: str, expected: list[str]) -> None:
    column = [{"name": "link", "path": "linkId"}] if "extension" not in path else [{"name": "url", "path": "url"}]
    assert [row[0] for row in rows(engine, {"repeat": [path], "column": column})] == expected


def test_extensions_in_extensions(engine: DuckDBEngine) -> None:
    inner = [{"url": "a", "valueString": "1"}, {"url": "b", "valueDecimal": Decimal("2.500")}]
    patient = {"resourceType": "Patient", "extension": [{"url": "x", "extension": inner}, {"url": "y"}]}
    column = [
        {"name": "url", "path": "url"},
        {"name": "text", "path": "value.ofType(string)"},
        {"name": "low", "path": "value.ofType(decimal).lowBoundary()"},
    ]
    assert rows(engine, {"repeat": ["extension"], "column": column}, resource=patient) == [
        ["x", None, None],
        ["a", "1", None],
        ["b", None, Decimal("2.4995")],
        ["y", None, None],
    ]
    one = {"repeat": ["extension('x')", "extension('b')"], "column": column[:1]}
    assert rows(engine, one, resource=patient) == [["x"], ["b"]]


def test_items_of_several_types(engine: DuckDBEngine) -> None:
    """An answer has a value and no linkId, an item the other way round."""
    column = [LINK, {"name": "value", "path": "value.ofType(string)"}]
    assert rows(engine, {"repeat": ["item", "answer"], "column": column})[:4] == [
        ["1", None],
        ["1.1", None],
        [None, "a"],
        ["1.1.1", None],
    ]


def test_the_items_below_are_still_read_by_other_paths(engine: DuckDBEngine) -> None:
    """An element that is read as text for repeat gives its columns and its forEach too."""
    column = [{"name": "first", "path": "item.linkId.first()"}, {"name": "any", "path": "item.exists()"}]
    below = {"repeat": ["item"], "column": column}
    assert rows(engine, below) == [["1.1", True], [None, False], [None, False]]
    beside = {"forEach": "item", "column": [{"name": "top", "path": "linkId"}]}
    assert rows(engine, beside, {"repeat": ["answer.item", "item"], "column": [LINK]})[:2] == [["1", "1"], ["1", "1.1"]]


def test_repeat_in_repeat(engine: DuckDBEngine) -> None:
    inner = {"repeat": ["answer.item", "item"], "column": [{"name": "below", "path": "linkId"}]}
    assert rows(engine, {"repeat": ["item"], "column": [LINK], "select": [inner]}) == [
        ["1", "1.1"],
        ["1", "1.1.1"],
        ["1", "1.1.2"],
        ["1", "1.1.2.1"],
        ["1.1", "1.1.1"],
        ["1.1", "1.1.2"],
        ["1.1", "1.1.2.1"],
    ]


def test_repeat_in_for_each_and_where_there_is_nothing_to_iterate(engine: DuckDBEngine) -> None:
    repeat = {"repeat": ["item"], "column": [{"name": "below", "path": "linkId"}]}
    each = {"column": [LINK], "select": [repeat]}
    assert rows(engine, {"forEach": "item", **each}) == [["1", "1.1"]]
    assert rows(engine, {"forEachOrNull": "item", **each}) == [["1", "1.1"]]
    assert rows(engine, {"forEachOrNull": "item", **each}, resource=response()) == [[None, None]]


def test_repeat_in_the_branches_of_a_union_in_a_repeat(engine: DuckDBEngine) -> None:
    branches = [{"repeat": ["item"], "column": [LINK]}, {"repeat": ["answer.item"], "column": [LINK]}]
    found = rows(engine, {"repeat": ["item"], "column": [{"name": "top", "path": "linkId"}], "unionAll": branches})
    assert found == [["1", "1.1"], ["1.1", "1.1.1"], ["1.1", "1.1.2"]]


def test_siblings_are_crossed(engine: DuckDBEngine) -> None:
    one = {"repeat": ["item"], "column": [{"name": "a", "path": "linkId"}]}
    other = {"repeat": ["item"], "column": [{"name": "b", "path": "linkId"}]}
    small = response({"linkId": "x", "item": [{"linkId": "y"}]})
    assert rows(engine, one, other, resource=small) == [["x", "x"], ["x", "y"], ["y", "x"], ["y", "y"]]


def test_the_row_index_is_the_position_in_the_innermost_iteration(engine: DuckDBEngine) -> None:
    answer = {"forEach": "answer", "column": [{"name": "m", "path": "%rowIndex + 1"}]}
    assert rows(engine, {"column": [INDEX]}) == [[0]]
    assert rows(engine, {"forEach": "item", "column": [LINK, INDEX]}) == [["1", 0], ["2", 1]]
    assert rows(engine, {"forEach": "item", "select": [{"column": [INDEX]}]}) == [[0], [1]]
    found = rows(engine, {"repeat": ["item"], "column": [LINK, INDEX], "select": [answer]})
    assert found == [["1.1", 1, 1], ["1.1", 1, 2]]


def test_the_row_index_in_a_criterion_and_in_a_union(engine: DuckDBEngine) -> None:
    column = [{"name": "link", "path": "item.where(%rowIndex = 0).linkId"}]
    assert rows(engine, {"forEach": "item", "column": column}) == [["1.1"], [None]]
    branches = [{"column": [INDEX]}, {"repeat": ["item", "answer.item"], "column": [INDEX]}]
    assert rows(engine, {"forEach": "item", "column": [LINK], "unionAll": branches}) == [
        ["1", 0],
        ["1", 0],
        ["1", 1],
        ["1", 2],
        ["1", 3],
        ["2", 1],
    ]


def test_the_row_index_where_for_each_or_null_finds_nothing(engine: DuckDBEngine) -> None:
    nothing = {"forEachOrNull": "item", "column": [LINK, INDEX]}
    assert rows(engine, nothing, resource=response()) == [[None, 0]]


@pytest.mark.parametrize(
    ("repeat", "said"),
    [
        ("itme", "select[0].repeat[0]: R4 has no element 'itme'"),
        ("item.", "select[0].repeat[0]: not FHIRPath at column"),
        ("item.linkId", "select[0].repeat[0]: 'linkId' is a string, which has nothing to descend into; use forEach"),
        ("item.where(x)", "select[0].repeat[0]: R4 has no element 'x' in QuestionnaireResponseItem"),
    ],
)
def test_what_is_said_of_a_wrong_repeat(repeat: str, said: str) -> None:
    with pytest.raises(ViewError) as caught:
        compiled(repeat)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "repeat",
    ["$this", "item | answer.item", "contained", "item.answer.value", "item[%rowIndex]", "item.where(%rowIndex = 0)"],
)
def test_what_repeat_does_not_take(repeat: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        compiled(repeat)
    assert str(caught.value).startswith("select[0].repeat[0]: ")


def compiled(repeat: str) -> str:
    select = [{"repeat": [repeat], "column": [LINK]}]
    return sql(ViewDefinition.load({"resource": "QuestionnaireResponse", "select": select}), keep=())
