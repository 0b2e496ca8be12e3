"""`periop terminology expand` on a real HAPI FHIR server, with a code system that has a hierarchy."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from mappers.terminology import load_terminology
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.integration.conftest import running_hapi

pytestmark = pytest.mark.hapi

SYSTEM = "https://periop.example/fhir/CodeSystem/expansion-test"
CODES = 25  # the root and what is below it


def code_system() -> dict[str, Any]:
    """A root with children, one of which has a child; and a code beside them."""
    children = [{"code": f"c{number}"} for number in range(CODES - 2)]
    children[0] = {"code": "c0", "concept": [{"code": "deep"}]}
    return {
        "resourceType": "CodeSystem",
        "id": "expansion-test",
        "url": SYSTEM,
        "version": "7",
        "status": "active",
        "content": "complete",
        "hierarchyMeaning": "is-a",
        "concept": [{"code": "root", "concept": children}, {"code": "other"}],
    }


def expand(file: Path, server: str, *more: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--config", str(file.parent / "periop.toml"), "terminology", "expand", str(file), "--server", server]
    return main([*arguments, *more], Session(out, err, {})), out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A HAPI server that expands value sets: of this module, because the index for it slows down every write."""
    with running_hapi(tmp_path_factory.mktemp("terminology"), OPTS="-Dfhir.terminology=true") as base:
        yield base


@pytest.fixture
def file(server: str, tmp_path: Path) -> Path:
    with FhirClient(server, NoAuth()) as client:
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"resource": code_system(), "request": {"method": "PUT", "url": "CodeSystem/expansion-test"}}],
        }
        client.post(server, "the code system", json.dumps(bundle).encode())
    include = {"system": SYSTEM, "filter": [{"property": "concept", "op": "is-a", "value": "root"}]}
    path = tmp_path / "alectinib.json"
    path.write_text(json.dumps({"resourceType": "ValueSet", "status": "active", "compose": {"include": [include]}}))
    return path


def test_a_hierarchy_is_expanded_and_then_known(server: str, file: Path) -> None:
    code, out, err = expand(file, server)
    assert (code, err) == (0, "")
    assert f"{CODES} codes of {SYSTEM}|7, expanded by {server}" in out
    terminology = load_terminology(file.parent, asked={"alectinib"})
    known = [
        code for code in ("root", "c0", "c22", "deep", "other") if terminology.target("alectinib", SYSTEM, code) == ""
    ]
    assert known == ["root", "c0", "c22", "deep"]


def test_a_code_system_that_the_server_does_not_have(server: str, file: Path) -> None:
    file.write_text(file.read_text().replace("expansion-test", "not-there"))
    code, _, err = expand(file, server)
    assert code == 1
    assert "ValueSet/$expand: the server refused it with status" in err
    assert "not-there" in err
