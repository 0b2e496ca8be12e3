"""`periop check` of known servers: the preset that fits, and no request for what server or sync cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fhir_stub import FhirStub, Resource, fhir_stub, outcome
from tests.functional.test_cli_check import LUNG, Terminal, checked, levels, said
from tests.vendor_matrix import TYPES

SITE = '[[sites]]\nname = "milan"\nkind = "{kind}"\nurl = "{url}"\ntypes = ["Patient", "Condition", "Observation"]\n'


def about(kind: str, name: str, **elements: Any) -> Resource:
    subject = {} if kind == "Patient" else {"subject": {"reference": "Patient/p"}}
    meta = {"lastUpdated": "2026-01-01T12:00:00.000Z"}
    return {"resourceType": kind, "id": name, "meta": meta, **subject, **elements}


@pytest.fixture
def server() -> Iterator[FhirStub]:
    """A good server with one patient."""
    with fhir_stub() as stub:
        stub.put(about("Patient", "p"), about("Condition", "c", code=LUNG))
        laboratory = [{"coding": [{"code": "laboratory"}]}]
        stub.put(*(about("Observation", name, category=laboratory) for name in ("o1", "o2")))
        stub.parameters.add("category")
        yield stub


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def configure(periop: Terminal, server: FhirStub, kind: str = "search", more: str = "") -> None:
    periop.configure(SITE.format(kind=kind, url=server.base) + more)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"software": {"name": "Epic", "version": "May 2026"}}, "epic"),
        ({"publisher": "Cerner"}, "oracle_health"),
        ({"implementation": {"description": "Oracle Health implementation of FHIR"}}, "oracle_health"),
        ({"software": {"name": "HAPI FHIR Server", "version": "8.8.0"}}, "hapi"),
        ({"software": {"name": "Vonk"}}, "firely"),
    ],
)
def test_fault_54_the_preset_that_fits_is_suggested(
    server: FhirStub, periop: Terminal, told: dict[str, Any], name: str
) -> None:
    server.software = told
    _, site = checked(periop, "--url", server.base)
    assert f'set vendor = "{name}"' in said(site, "vendor")


def test_fault_54_a_vendor_that_is_configured_is_compared(server: FhirStub, periop: Terminal) -> None:
    configure(periop, server, more='vendor = "hapi"\n')
    assert said(checked(periop)[1], "vendor") == "HAPI FHIR, as the site says"
    server.software = {"software": {"name": "Epic"}}
    _, site = checked(periop)
    assert said(site, "vendor") == 'it says that it is Epic, but vendor = "hapi" is configured: correct one'
    assert levels(site)["vendor", None] == "note"


def test_fault_54_nothing_is_asked_for_that_the_server_does_not_offer(server: FhirStub, periop: Terminal) -> None:
    server.parameters.discard("_lastUpdated")
    server.rules.append(lambda r: outcome(400, "not-supported") if r.path.endswith("_history") else None)
    configure(periop, server)
    asked = checked(periop)[1]["requests"]
    assert [text for text in asked if "_lastUpdated" in text]
    configure(periop, server, more='vendor = "epic"\n')
    code, site = checked(periop)
    assert (code, site["requests"], site["path"]["nights"]) == (0, [], "everything")


def test_fault_54_no_history_is_asked_for_where_everything_is_read_anyway(server: FhirStub, periop: Terminal) -> None:
    server.parameters.discard("_lastUpdated")
    server.rules.append(lambda r: outcome(400, "not-supported") if r.path.endswith("_history") else None)
    configure(periop, server)
    assert not [text for text in checked(periop)[1]["requests"] if "_history" in text]
    server.parameters.add("_lastUpdated")
    assert [text for text in checked(periop)[1]["requests"] if "_history" in text]
    server.dated = False  # then changes cannot be asked for either
    (request,) = checked(periop)[1]["requests"]
    assert "Date" in request


@pytest.mark.parametrize(
    ("vendor", "kind", "better"), [("smart_reference", "search", "bulk"), ("azure", "bulk", "search")]
)
def test_fault_54_a_kind_that_does_not_fit_the_server_is_said(
    server: FhirStub, periop: Terminal, vendor: str, kind: str, better: str
) -> None:
    server.rules.append(lambda r: outcome(404, "not-found") if r.path in TYPES else None)
    configure(periop, server, kind, f'vendor = "{vendor}"\n')
    _, site = checked(periop)
    assert [each["said"] for each in site["findings"] if each["check"] == "vendor"][1].endswith(
        f'set kind = "{better}"'
    )
    assert site["requests"] == []


@pytest.mark.parametrize("zoned", [True, False])
def test_fault_53_a_zone_that_is_not_looked_at_is_found_out(server: FhirStub, periop: Terminal, zoned: bool) -> None:
    server.zoned = zoned
    configure(periop, server)
    code, site = checked(periop)
    assert (code, levels(site)["zones", None]) == (0, "ok" if zoned else "note")
    assert [text for text in site["requests"] if "another time zone" in text] == [] if zoned else site["requests"]
    assert len([each for each in server.requests if "_lastUpdated" in each.params]) == 3 + 2  # a canary each, two zones


def test_fault_54_medications_are_asked_for_by_id_where_a_search_needs_a_parameter(
    server: FhirStub, periop: Terminal
) -> None:
    bare = lambda r: outcome(400, "required") if r.path == "Medication" and "_id" not in r.params else None  # noqa: E731
    server.rules.append(bare)
    periop.configure(
        SITE.format(kind="search", url=server.base).replace('"Observation"', '"Observation", "Medication"')
    )
    code, site = checked(periop)
    assert (code, said(site, "read", "Medication"), site["requests"]) == (0, "readable by id", [])


def test_fault_54_the_path_of_a_single_export_of_a_group_is_everything(server: FhirStub, periop: Terminal) -> None:
    configure(periop, server, "bulk", 'vendor = "epic"\ngroup = "g"\n')
    server.put({"resourceType": "Group", "id": "g", "type": "person", "actual": True})
    code, site = checked(periop)
    assert (code, site["path"]["nights"], site["path"]["deletions"]) == (0, "everything", "by the export")
