"""`periop sandbox load|clear`: the built-in cohort on a server, and exactly that off again."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.sandbox.bundles import RESOURCE_SYSTEM, is_tagged
from schedules.cli.main import main
from schedules.cli.sandbox import COHORT
from schedules.cli.session import Session
from tests.cohorts import ALNEO
from tests.fhir_stub import FhirStub, fhir_stub, outcome, referenced

BUILT_IN = {file.stem: len(file.read_text().splitlines()) for file in ALNEO.glob("*.ndjson")}
OTHER = {"resourceType": "Patient", "id": "somebody-else", "name": [{"family": "Canary-Smith"}]}
CONFIG = """
[[sites]]
name = "test"
kind = "search"
url = "{url}"
sandbox = {sandbox}
auth = {{ kind = "bearer", token_env = "TOKEN" }}
"""


@pytest.fixture
def server() -> Iterator[FhirStub]:
    """A server with a patient of its own."""
    with fhir_stub() as stub:
        stub.put(OTHER)
        yield stub


class Terminal:
    """Runs `periop sandbox` in a folder and keeps what came out."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "periop.toml"
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        session = Session(out, err, {"TOKEN": "s3cret"})
        code = main(["--config", str(self.config), "sandbox", *arguments], session)
        self.out, self.err = out.getvalue(), err.getvalue()
        assert "Canary-Smith" not in self.out + self.err
        return code

    def json(self, *arguments: str) -> dict[str, Any]:
        assert self(*arguments, "--server", "127.0.0.1", "--json") == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def types(server: FhirStub) -> Counter[str]:
    """How many resources of each type there are, but for the patient that was there before."""
    return Counter(each["resourceType"] for each in server.store.values() if each is not OTHER)


def changes(server: FhirStub) -> list[str]:
    """What was asked for beyond reading."""
    return [request.method for request in server.requests if request.method != "GET"]


def test_load_load_again_and_clear(server: FhirStub, periop: Terminal) -> None:
    assert periop.json("load", server.base)["created"] == BUILT_IN
    assert types(server) == BUILT_IN
    assert all(is_tagged(each, COHORT) for each in server.store.values() if each is not OTHER)
    before = dict(server.store)
    server.requests.clear()
    assert periop.json("load", server.base) == {"created": {}, "updated": {}, "unchanged": BUILT_IN, "exit_code": 0}
    assert (server.store, changes(server)) == (before, [])
    assert periop.json("clear", server.base) == {"deleted": BUILT_IN, "left": {}, "exit_code": 0}
    assert list(server.store.values()) == [OTHER]
    assert periop.json("clear", server.base) == {"deleted": {}, "left": {}, "exit_code": 0}


def test_it_is_told_to_people(server: FhirStub, periop: Terminal) -> None:
    assert periop("load", server.base, "--server", "127.0.0.1") == 0
    assert periop.out.startswith(f"{sum(BUILT_IN.values())} created: {BUILT_IN['AdverseEvent']} AdverseEvent, ")
    assert "0 updated\n0 unchanged\n" in periop.out
    assert f"{sum(BUILT_IN.values())} of {sum(BUILT_IN.values())} resources put" in periop.err


def test_what_was_changed_is_put_right(server: FhirStub, periop: Terminal) -> None:
    periop.json("load", server.base)
    right = server.store["Patient/SYN-01"]
    server.put({**right, "gender": "unknown"})
    del server.store["Observation/SYN-01-alk"]
    found = periop.json("load", server.base)
    assert (found["created"], found["updated"]) == ({"Observation": 1}, {"Patient": 1})
    assert server.store["Patient/SYN-01"] == right


def test_a_server_that_chooses_the_ids(server: FhirStub, periop: Terminal) -> None:
    server.own_ids = False
    assert periop.json("load", server.base)["created"] == BUILT_IN
    assert types(server) == BUILT_IN
    assert all(each["id"].isdigit() for each in server.store.values() if each is not OTHER)
    dangling = {reference for each in server.store.values() for reference in referenced(each)} - set(server.store)
    assert dangling == set()
    (alk,) = [
        each
        for each in server.store.values()
        if {"system": RESOURCE_SYSTEM, "code": "Observation/SYN-01-alk"} in each.get("meta", {}).get("tag", ())
    ]
    patient = server.store[alk["subject"]["reference"]]
    assert patient["identifier"][0]["value"] == "MRN-SYN-01"
    before = dict(server.store)
    assert periop.json("load", server.base)["unchanged"] == BUILT_IN
    assert server.store == before
    assert periop.json("clear", server.base)["deleted"] == BUILT_IN
    assert list(server.store.values()) == [OTHER]


def test_a_server_that_nobody_called_a_sandbox_is_refused(server: FhirStub, periop: Terminal) -> None:
    for command in ("load", "clear"):
        assert periop(command, server.base) == 2
        assert "127.0.0.1 is not marked as a sandbox" in periop.err
        assert periop(command, server.base, "--server", "fhir.example.org") == 2
    periop.config.write_text(CONFIG.format(url=server.base, sandbox="false"))
    assert periop("load", "test") == 2
    assert server.requests == []


@pytest.mark.parametrize("by_name", [True, False])
def test_a_site_that_is_marked_gets_the_credentials_of_the_site(
    server: FhirStub, periop: Terminal, by_name: bool
) -> None:
    periop.config.write_text(CONFIG.format(url=server.base, sandbox="true"))
    server.token = "s3cret"
    assert periop("load", "test" if by_name else server.base) == 0
    assert types(server) == BUILT_IN


def test_a_name_that_is_not_configured(server: FhirStub, periop: Terminal) -> None:
    assert periop("load", "test") == 2
    periop.config.write_text(CONFIG.format(url=server.base, sandbox="true"))
    assert periop("load", "rome") == 2
    assert "has no server named 'rome'" in periop.err


def test_ids_that_somebody_else_has_are_not_overwritten(server: FhirStub, periop: Terminal) -> None:
    theirs = {"resourceType": "Patient", "id": "SYN-01", "gender": "male"}
    server.put(theirs)
    assert periop("load", server.base, "--server", "127.0.0.1") == 1
    assert "has 1 resources with ids of the cohort that periop did not put there" in periop.err
    assert (server.store["Patient/SYN-01"], changes(server)) == (theirs, [])


def test_a_type_that_the_server_lacks_holds_nothing_of_ours(server: FhirStub, periop: Terminal) -> None:
    assert periop("load", server.base, "--server", "127.0.0.1") == 0
    server.types -= {"MedicationStatement", "Medication"}
    assert periop("clear", server.base, "--server", "127.0.0.1") == 0
    assert set(server.store) == {"Patient/somebody-else"}
    server.types -= {"Procedure"}
    assert periop("load", server.base, "--server", "127.0.0.1") == 1
    assert set(server.store) == {"Patient/somebody-else"}


@pytest.mark.parametrize("command", ["load", "clear"])
@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_server_that_cannot_search_by_tag_is_left_alone(
    server: FhirStub, periop: Terminal, command: str, how: str
) -> None:
    server.parameters.discard("_tag")
    server.ignored |= {"_tag"} if how == "ignored" else set()
    assert periop(command, server.base, "--server", "127.0.0.1") == 1
    assert "_tag" in periop.err
    assert (list(server.store.values()), changes(server)) == ([OTHER], [])


@pytest.mark.parametrize(("status", "code", "words"), [(401, 6, "credentials"), (403, 1, "does not allow to write")])
def test_a_server_that_may_not_be_written(
    server: FhirStub, periop: Terminal, status: int, code: int, words: str
) -> None:
    server.rules.append(lambda r: outcome(status, "forbidden") if r.method == "POST" else None)
    assert periop("load", server.base, "--server", "127.0.0.1") == code
    assert words in periop.err


def test_a_server_that_takes_nothing_says_why_in_a_code(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(422, "invalid") if r.method in ("POST", "PUT") else None)
    assert periop("load", server.base, "--server", "127.0.0.1") == 1
    assert "(422, invalid)" in periop.err
    assert periop.err.endswith('use another server; it says "no such thing for …"\n')


def test_what_others_refer_to_stays_and_is_told(server: FhirStub, periop: Terminal) -> None:
    periop.json("load", server.base)
    note = {"resourceType": "Observation", "id": "of-another", "subject": {"reference": "Patient/SYN-01"}}
    server.put(note)
    assert periop("clear", server.base, "--server", "127.0.0.1", "--json") == 1
    assert json.loads(periop.out)["left"] == {"Patient": 1}
    assert set(server.store) == {"Patient/somebody-else", "Patient/SYN-01", "Observation/of-another"}
