"""The presets of vendors: defaults of a site, over which its own settings win."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from schedules.config.presets import VENDORS, VendorName, presets, with_defaults
from schedules.config.settings import Settings
from schedules.config.site_settings import BulkSite, SearchSite

URL = "https://fhir.example.org/r4"
GROUP = {"group": "lung-cancer"}


def bulk(**keys: Any) -> BulkSite:
    return BulkSite.model_validate({"name": "milan", "kind": "bulk", "url": URL, **keys})


def search(**keys: Any) -> SearchSite:
    return SearchSite.model_validate({"name": "milan", "kind": "search", "url": URL, **keys})


def test_there_is_a_file_for_each_vendor_that_a_site_may_name() -> None:
    assert set(presets()) == set(get_args(VendorName))


@pytest.mark.parametrize("name", presets())
def test_the_defaults_of_a_vendor_are_settings_of_both_kinds(name: str) -> None:
    preset = presets()[name]
    assert set(preset.unfit) < {"search", "bulk"}
    for kind, model in (("search", SearchSite), ("bulk", BulkSite)):
        own = GROUP if preset.defaults[kind].get("level") == "group" else {}
        site = model.model_validate({"name": "milan", "kind": kind, "url": URL, "vendor": name, **own})
        shown = site.model_dump(mode="json", exclude_none=True)
        for key, value in preset.defaults[kind].items():
            assert shown[key] == (value | shown[key] if isinstance(value, dict) else value)


@pytest.mark.parametrize("name", presets())
def test_each_setting_of_a_preset_stands_below_its_source(name: str) -> None:
    blocks = (VENDORS / f"{name}.toml").read_text(encoding="utf-8").split("[site]")[1]
    lines = [line for line in blocks.splitlines() if line]
    settings = [number for number, line in enumerate(lines) if re.match(r"[\w.]+ = ", line)]
    assert [lines[number] for number in settings if not lines[number - 1].startswith("#")] == []


def test_the_settings_of_the_site_win_over_those_of_its_vendor() -> None:
    assert (bulk(vendor="epic", **GROUP).single_export, bulk(**GROUP, level="group").single_export) == (True, False)
    assert bulk(vendor="epic", **GROUP, single_export=False).single_export is False
    limits = search(vendor="epic", limits={"page_size": 7}).limits
    assert (limits.page_size, limits.patients_per_request) == (7, 1)


def test_a_type_with_parameters_of_its_own_has_none_of_the_vendor() -> None:
    assert set(search(vendor="epic").parameters) == {"Observation"}
    own = search(vendor="epic", parameters={"Observation": {"code": "8480-6"}, "Procedure": {"status": "completed"}})
    assert own.parameters == {"Observation": {"code": ("8480-6",)}, "Procedure": {"status": ("completed",)}}


def test_a_level_of_the_vendor_still_needs_its_group() -> None:
    with pytest.raises(ValueError, match="the id of the Group"):
        bulk(vendor="epic")


def test_an_unknown_vendor_is_refused_and_none_changes_nothing() -> None:
    with pytest.raises(ValueError, match="vendor"):
        search(vendor="epik")
    content = {"name": "milan", "kind": "search", "url": URL}
    assert with_defaults(content) == content
    assert Settings.model_validate({"sites": [content]}).site_names == ("milan",)
