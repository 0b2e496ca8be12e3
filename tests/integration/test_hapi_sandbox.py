"""`periop sandbox` on a real HAPI FHIR server: the cohort on it, the published table from it, and off it again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.sandbox.bundles import tag_query
from schedules.cli.main import main
from schedules.cli.sandbox import COHORT
from schedules.cli.session import Session
from tests.cohorts import ALNEO

pytestmark = pytest.mark.hapi

BUILT_IN = {file.stem: len(file.read_text().splitlines()) for file in ALNEO.glob("*.ndjson")}
OTHER = {"resourceType": "Patient", "id": "sandbox-somebody-else", "gender": "female"}
CONFIG = """
[[sites]]
name = "hapi"
kind = "search"
url = "{url}"
sandbox = true

[disclosure]
min_cell = 0
"""


@pytest.fixture(scope="module")
def folder(hapi: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose periop.toml calls the server a sandbox, with nothing of the cohort on it at first.

    The other tests of this server come later (tests/conftest.py): what they leave on it may refer to the cohort.
    """
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "periop.toml").write_text(CONFIG.format(url=hapi))
    periop(folder, "sandbox", "clear", "hapi")
    return folder


@pytest.fixture(scope="module")
def other(hapi: str) -> Iterator[str]:
    """A patient without our tag; gives the URL."""
    url = f"{hapi}/Patient/{OTHER['id']}"
    with httpx.Client(trust_env=False, timeout=60) as client:
        client.put(url, json=OTHER).raise_for_status()
        yield url
        client.delete(url).raise_for_status()


def periop(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON of a command that ends well."""
    out, err = io.StringIO(), io.StringIO()
    session = Session(out, err, {})
    assert main(["--config", str(folder / "periop.toml"), *arguments, "--json"], session) == 0, err.getvalue()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def versions(base: str) -> dict[str, str]:
    """The version of every observation of ours on the server."""
    found: dict[str, str] = {}
    with httpx.Client(trust_env=False, timeout=60) as client:
        url = str(httpx.URL(f"{base}/Observation", params=dict([tag_query(COHORT)]) | {"_count": "200"}))
        while url:
            page = client.get(url, headers={"Cache-Control": "no-cache"}).raise_for_status().json()
            found |= {e["resource"]["id"]: e["resource"]["meta"]["versionId"] for e in page.get("entry", ())}
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    return found


def test_load_sync_and_clear(hapi: str, folder: Path, other: str) -> None:
    assert periop(folder, "sandbox", "load", "hapi")["created"] == BUILT_IN
    before = versions(hapi)
    assert len(before) == BUILT_IN["Observation"]
    again = periop(folder, "sandbox", "load", hapi)
    assert (again["created"], again["updated"], again["unchanged"]) == ({}, {}, BUILT_IN)
    assert versions(hapi) == before

    assert periop(folder, "run")["map"]["enrolled"] == 33  # Leo 2025: 33 patients were enrolled
    estimates = {each["id"]: each for each in periop(folder, "analyze")["proportions"]}
    assert (estimates["response.mpr"]["x"], estimates["response.mpr"]["n"]) == (15, 33)

    cleared = periop(folder, "sandbox", "clear", "hapi")
    assert (cleared["deleted"], cleared["left"]) == (BUILT_IN, {})
    assert versions(hapi) == {}
    assert httpx.get(other, trust_env=False, timeout=60).json()["gender"] == "female"
    assert periop(folder, "sandbox", "clear", "hapi")["deleted"] == {}


def test_it_can_be_loaded_again_after_it_was_cleared(folder: Path) -> None:
    periop(folder, "sandbox", "clear", "hapi")
    assert periop(folder, "sandbox", "load", "hapi")["created"] == BUILT_IN
    periop(folder, "sandbox", "clear", "hapi")
