"""The servers of vendors: every profile by search and by export, over five nights, as the documentation says it."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_docs import page
from tests.vendor_matrix import KINDS, NIGHTS, PRESET_MARKS, PRESETS, PROFILES, cells, defaults, documented, written
from tests.vendor_server import SWITCHES, switches

# The ends of a night: the lake is as the server is, or the exit code is 3 and the sentence stands below the table.
ENDS = re.compile(r"equal|equal after the weekly comparison|3, then equal|exit code 3 \[[a-z]\]")


@pytest.mark.parametrize("name", PROFILES)
def test_each_switch_of_a_profile_is_known_and_has_a_public_source(name: str) -> None:
    found = list(switches(name))
    assert {switch for _, switch, _, _ in found} <= SWITCHES
    assert [switch for _, switch, _, source in found if not source.startswith("https://")] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROFILES)
def test_the_nights_of_a_vendor_end_as_documented(name: str, kind: str) -> None:
    row = cells(name, kind)
    print(f"{name} {kind}: {row}")
    assert row == documented(page("server-administrator.md"))[name, kind]


def test_each_night_ends_with_the_lake_equal_or_with_a_sentence() -> None:
    text = page("server-administrator.md")
    rows = documented(text, shown=True)
    assert set(rows) == {(name, kind) for name in PROFILES for kind in KINDS}
    assert {len(row) for row in rows.values()} == {len(NIGHTS)}
    assert [cell for row in rows.values() for cell in row if not ENDS.fullmatch(cell)] == []


def test_the_defaults_of_the_vendors_are_documented() -> None:
    assert PRESETS.read_text(encoding="utf-8") == written(PRESETS, *PRESET_MARKS, defaults()), "run `make expected`"


@pytest.mark.parametrize("name", PROFILES)
def test_each_preset_has_a_section_with_what_to_register_and_what_is_said(name: str) -> None:
    found = re.findall(rf"^### `{name}`: .+\n(?:\n?- .+)+", page("server-administrator.md"), flags=re.MULTILINE)
    assert re.findall(
        r"^- \*\*(Register|Scopes|Otherwise|What periop does|Not set up)", found[0], flags=re.MULTILINE
    ) == [
        "Register",
        "Scopes",
        "Otherwise",
        "What periop does",
        "Not set up",
    ]
