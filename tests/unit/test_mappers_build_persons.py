"""Linked records as persons, whatever the order in which they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.build.persons import merged_records


def row(id_: str, other: str | None = None, kind: str | None = "seealso", active: bool | None = None) -> dict[str, Any]:
    return {"site": "s", "id": id_, "active": active, "type": kind if other else None, "other": other}


def persons(*rows: dict[str, Any]) -> dict[str, str]:
    return {found["patient"]: found["person"] for found in merged_records(rows).to_pylist()}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {}),
        ([row("a")], {}),
        ([row("a", "a")], {}),
        ([row("a", "b", "replaced-by"), row("b")], {"a": "b"}),
        ([row("b", "a", "replaces"), row("a")], {"a": "b"}),
        # not replaced comes before active, active before the number of links, that before the id
        ([row("a", "b", "replaced-by"), row("b", active=False)], {"a": "b"}),
        ([row("a", active=False), row("b", "a")], {"a": "b"}),
        ([row("a"), row("b", "a")], {"b": "a"}),
        ([row("c", "b"), row("a", "b"), row("b", "a")], {"a": "b", "c": "b"}),
        ([row("b", "a", "replaced-by"), row("a", "b", "replaced-by")], {"b": "a"}),
        # a record that is not there is no canonical record, and joins those that link to it
        ([row("a", "gone", "replaced-by")], {"gone": "a"}),
        ([row("a", "gone"), row("b", "gone")], {"b": "a", "gone": "a"}),
        # two persons, and another site
        ([row("a", "b"), row("b"), row("c", "d"), row("d")], {"a": "b", "c": "d"}),
        ([row("a", "b"), row("b") | {"site": "t"}], {"b": "a"}),
    ],
)
def test_the_canonical_record_of_linked_records(rows: list[dict[str, Any]], expected: dict[str, str]) -> None:
    assert persons(*rows) == expected


names = st.sampled_from("abcdefgh")
links = st.lists(st.tuples(names, names, st.sampled_from(["replaced-by", "replaces", "refer", "seealso"])), max_size=10)


@given(links, st.randoms(use_true_random=False))
def test_persons_are_what_is_connected_in_any_order(found: list[tuple[str, str, str]], random: Any) -> None:
    rows = [row(one, other, kind) for one, other, kind in found]
    whose = persons(*rows)
    random.shuffle(rows)
    assert persons(*rows) == whose
    present = {one for one, _, _ in found}
    assert all(person in present and person not in whose for person in whose.values())
    # the slow way: everybody takes the smallest name that a neighbour has, until nothing changes
    label = {name: name for one, other, _ in found for name in (one, other)}
    for _ in label:
        for one, other, _kind in found:
            label[one] = label[other] = min(label[one], label[other])
    for one in label:
        for other in label:
            assert (whose.get(one, one) == whose.get(other, other)) == (label[one] == label[other])
