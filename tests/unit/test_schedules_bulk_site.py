"""A site of kind "bulk": what its keys allow, and the source that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.sources.bulk.source import BulkSource
from schedules.config.settings import Limits, Settings
from schedules.config.site_settings import BulkSite
from schedules.errors import ConfigError
from schedules.run.sources import TYPES, source, whole_patient_list

URL = "https://fhir.hospital.example/r4"


def site(**keys: Any) -> BulkSite:
    return BulkSite.model_validate({"name": "milan", "kind": "bulk", "url": URL, **keys})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"level": "group"}, "give `group`"),
        ({"group": "g"}, "give `group`"),
        ({"level": "group", "group": "../Patient"}, "pattern"),
        ({"level": "cohort"}, "system"),
        ({"max_poll_seconds": 0}, "greater than 0"),
        ({"export_deadline_hours": 745}, "less than or equal to 744"),
        ({"patients_file": "p", "kick_off": "post"}, "patients_file needs"),
        ({"patients_file": "p", "level": "patient"}, "patients_file needs"),
        ({"kick_off": "put"}, "get"),
        ({"type_filter": ["code=x"]}, "pattern"),
        ({"type_filter": ["Condition?code=a b"]}, "pattern"),
        ({"allowed_origins": ["https://files.example/path"]}, "has a path"),
        ({"allowed_origins": ["http://files.example"]}, "plain http"),
        ({"allowed_origins": ["s3://bucket"]}, "http or https"),
        ({"allowed_origins": ["https://user:pass@files.example"]}, "credentials"),
        ({"levels": "system"}, "levels"),
    ],
)
def test_keys_that_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        site(**keys)


def test_plain_http_for_files_where_it_is_allowed_or_on_the_loopback() -> None:
    assert site(allowed_origins=["http://files.example"], allow_plain_http=True).allowed_origins
    assert site(allowed_origins=["http://127.0.0.1:9000"]).allowed_origins == ("http://127.0.0.1:9000",)


def test_the_source_of_a_site(tmp_path: Path) -> None:
    keys = {
        "level": "group",
        "group": "lung-cancer",
        "type_filter": ["Condition?clinical-status=active"],
        "kick_off": "post",
        "max_poll_seconds": 5,
        "export_deadline_hours": 2,
        "single_export": True,
        "patients_file": tmp_path / "patients.txt",
        "allowed_origins": ["https://files.example:8443"],
    }
    (tmp_path / "patients.txt").write_text("\ufeffb\r\n\na\nb \n")
    limits = Limits(streams=2, site_seconds=60, max_response_bytes=2048, read_seconds=5)
    settings = Settings(data_dir=tmp_path, sites=(site(**keys),), limits=limits)
    found = source(settings, settings.sites[0], {})
    assert isinstance(found, BulkSource)
    assert (found.url, found.types, found.site, found.jobs) == (URL, TYPES, "milan", tmp_path / "jobs")
    assert (found.level, found.group, found.kick_off) == ("group", "lung-cancer", "post")
    assert (found.type_filter, found.allowed_origins) == (
        ("Condition?clinical-status=active",),
        ("https://files.example:8443",),
    )
    assert (found.polling.at_most, found.polling.deadline) == (5, 7200)
    assert (found.single_export, sorted(found.patients.ids)) == (True, ["a", "b"])
    assert (found.limits.streams, found.transfer.run, found.transfer.response, found.transfer.read) == (2, 60, 2048, 5)
    kick_off = next(found.plan(None))  # before the server is asked for anything
    assert (kick_off.method, kick_off.url_shown) == ("POST", f"{URL}/Group/lung-cancer/$export")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read as text"),
        (b"\xff", "cannot be read as text"),
        (b"\n \n", "names no patient"),
        (b"p1\nthe/secret\n", "line 2 cannot be read"),
        (b"name,born\nsecret,1950\n", "line 1: has other columns than id, or system and value"),
        (b"id;name\n?;secret\n", r"names no patient \(line 2 cannot be read\)"),
    ],
)
def test_a_list_of_patients_that_cannot_be_used(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "patients.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as raised:
        whole_patient_list(file)
    assert "secret" not in str(raised.value)
