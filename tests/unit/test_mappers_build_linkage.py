"""Persons at several sites, by the hashes of identifiers, whatever the order in which they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappers.build.linkage import linked_records
from mappers.cohort.eligibility import DIFFERING, SEVERAL_AT_ONE_SITE

SITES = ("c", "a", "b")  # the order of the configuration, which is not that of the names


def row(record: str, key: str, gender: str | None = None, birth_date: str | None = None) -> dict[str, Any]:
    """`record` is the site and the number of a patient, such as a1."""
    return {"site": record[0], "patient": record[1:], "key": key, "gender": gender, "birth_date": birth_date}


def groups(*rows: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Each group as the records in the order of their sites, with the reason why it is none."""
    found: dict[object, list[tuple[int, str, str | None]]] = {}
    for each in linked_records(rows, SITES).to_pylist():
        record = each["site"] + each["patient"]
        found.setdefault(each["person_key"] or each["conflict"], []).append((each["place"], record, each["conflict"]))
    return sorted((" ".join(record for _, record, _ in sorted(each)), each[0][2]) for each in found.values())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([row("a1", "x")], []),
        ([row("a1", "x"), row("b1", "x")], [("a1 b1", None)]),
        ([row("a1", "x"), row("b1", "y")], []),
        # over a third site, by another identifier
        ([row("a1", "x"), row("b1", "x"), row("b1", "y"), row("c1", "y")], [("c1 a1 b1", None)]),
        # two of one site, directly and over another site
        ([row("a1", "x"), row("a2", "x"), row("b1", "x")], [("a1 a2 b1", SEVERAL_AT_ONE_SITE)]),
        ([row("a1", "x"), row("b1", "x"), row("b1", "y"), row("a2", "y")], [("a1 a2 b1", SEVERAL_AT_ONE_SITE)]),
        # two records of one patient at a site, which say more together
        ([row("a1", "x", "male"), row("a1", "y"), row("b1", "y", "female")], [("a1 b1", DIFFERING)]),
        ([row("a1", "x", None, "1960-05-05"), row("b1", "x", None, "1960-05-06")], [("a1 b1", DIFFERING)]),
        # what is not known, or not whole, contradicts nothing
        ([row("a1", "x", "male", "1960"), row("b1", "x", "unknown", "1960-05-06")], [("a1 b1", None)]),
    ],
)
def test_who_is_linked(rows: list[dict[str, Any]], expected: list[tuple[str, str | None]]) -> None:
    assert groups(*rows) == expected


records = st.sampled_from([f"{site}{number}" for site in SITES for number in range(3)])


@given(st.lists(st.tuples(records, st.sampled_from("vwxyz")), max_size=12), st.randoms(use_true_random=False))
def test_the_linked_are_what_is_connected_in_any_order(found: list[tuple[str, str]], random: Any) -> None:
    rows = [row(*each) for each in found]
    table = linked_records(rows, SITES)
    random.shuffle(rows)
    assert linked_records(rows, SITES) == table
    # the slow way: everybody takes the smallest name among those with the same key, until nothing changes
    label = {record: record for record, _ in found}
    for _ in label:
        for one, key in found:
            for other, same in found:
                if same == key:
                    label[one] = label[other] = min(label[one], label[other])
    members = {record: [each for each in label if label[each] == label[record]] for record in label}
    expected = {
        record: len({each[0] for each in connected}) == len(connected)
        for record, connected in members.items()
        if len(connected) > 1
    }
    assert {each["site"] + each["patient"]: each["conflict"] is None for each in table.to_pylist()} == expected
    keys = {each["site"] + each["patient"]: each["person_key"] for each in table.to_pylist() if each["person_key"]}
    for one, first in keys.items():
        for other, second in keys.items():
            assert (first == second) == (label[one] == label[other])
