"""`periop terminology expand`: what is sent to a terminology server, what is written, and what a server may refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mappers.terminology import load_terminology
from mappers.terminology.systems import TEXT
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.fhir_stub import FhirStub, Reply, Request, fhir_stub

SCT = "http://snomed.info/sct"
VERSION = f"{SCT}|http://snomed.info/sct/900000000000207008/version/20240101"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
IS_A = {"system": SCT, "filter": [{"property": "concept", "op": "is-a", "value": "128462008"}]}
BY_RULE = {
    "system": "http://hl7.org/fhir/sid/icd-10-cm",
    "filter": [{"property": "code", "op": "regex", "value": "C80.*"}],
}
TEXTS = {"system": TEXT, "concept": [{"code": "Metastase"}]}


@pytest.fixture
def server() -> Iterator[FhirStub]:
    with fhir_stub() as stub:
        yield stub


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A value set with a part for a server, a rule, a text and an exclusion."""
    path = tmp_path / "secondary-cancer.json"
    excluded = [{"system": SCT, "concept": [{"code": "1003"}]}]
    compose = {"include": [IS_A, BY_RULE, TEXTS], "exclude": excluded}
    path.write_text(json.dumps({"resourceType": "ValueSet", "status": "active", "compose": compose}))
    return path


def periop(folder: Path, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["--config", str(folder / "periop.toml"), *arguments], Session(out, err, {}, lambda: NOW))
    return code, out.getvalue(), err.getvalue()


def paged(codes: list[str], *, total: bool = True, paging: bool = True, whole: bool = False) -> Any:
    """A rule of the stub that expands anything to `codes`; without `whole` only a page at a time."""

    def answer(request: Request) -> Reply | None:
        if request.path != "ValueSet/$expand":
            return None
        wanted = {each["name"]: each for each in request.body["parameter"]}
        if "count" not in wanted and not whole:
            return Reply(422, {"resourceType": "OperationOutcome", "issue": [{"code": "too-costly"}]})
        start = wanted["offset"]["valueInteger"] if "offset" in wanted and paging else 0
        page = codes[start : start + wanted["count"]["valueInteger"]] if "count" in wanted else codes
        contains = [{"system": SCT, "code": code} for code in page]
        expansion: dict[str, Any] = {"contains": contains, "parameter": [{"name": "version", "valueUri": VERSION}]}
        if total:
            expansion["total"] = len(codes)
        return Reply(body={"resourceType": "ValueSet", "expansion": expansion})

    return answer


@pytest.mark.parametrize("total", [True, False])
def test_all_pages_are_in_one_file_with_date_server_and_version(
    server: FhirStub, file: Path, tmp_path: Path, total: bool
) -> None:
    server.rules.append(paged([str(code) for code in range(1000, 1005)], total=total))
    code, out, err = periop(tmp_path, "terminology", "expand", str(file), "--server", server.base, "--page", "2")
    assert (code, err) == (0, "")
    assert out == f"{file}: 5 codes of {VERSION}, expanded by {server.base} on 2026-11-30\n"
    written = json.loads(file.read_text())
    assert written["expansion"]["timestamp"] == "2026-11-30T12:00:00+00:00"
    assert [each["valueUri"] for each in written["expansion"]["extension"]] == [server.base]
    sent = server.requests[0].body["parameter"][0]["resource"]
    assert sent["compose"]["include"] == [IS_A]  # neither the rule nor the text, which the server need not know
    assert len(server.requests) == 4  # the whole is refused, then come three pages

    terminology = load_terminology(tmp_path)
    known = [("1004", SCT), ("C80.0", BY_RULE["system"]), ("metastase", TEXT), ("C78.01", BY_RULE["system"])]
    assert [terminology.target("secondary-cancer", str(system), code) for code, system in known] == [""] * 4


def test_a_server_that_gives_the_whole_is_asked_once(server: FhirStub, file: Path, tmp_path: Path) -> None:
    server.rules.append(paged([str(code) for code in range(1000, 1005)], whole=True))
    assert periop(tmp_path, "terminology", "expand", str(file), "--server", server.base, "--page", "2")[0] == 0
    assert len(server.requests) == 1
    assert len(json.loads(file.read_text())["expansion"]["contains"]) == 5


def test_the_file_goes_to_another_folder(server: FhirStub, file: Path, tmp_path: Path) -> None:
    server.rules.append(paged(["1"]))
    (tmp_path / "pinned").mkdir()
    arguments = ("terminology", "expand", str(file), "--server", server.base, "--out", str(tmp_path / "pinned"))
    assert periop(tmp_path, *arguments)[0] == 0
    assert "expansion" not in json.loads(file.read_text())
    assert "expansion" in json.loads((tmp_path / "pinned" / file.name).read_text())


def test_a_value_set_is_found_by_its_name(server: FhirStub, file: Path, tmp_path: Path) -> None:
    server.rules.append(paged(["1"]))
    (tmp_path / "periop.toml").write_text(
        'data_dir = "data"\n[[sites]]\nname = "a"\nkind = "folder"\npath = "."\n[mapping]\nterminology = ["."]\n'
    )
    assert periop(tmp_path, "terminology", "expand", "secondary-cancer", "--server", server.base)[0] == 0
    assert "expansion" in json.loads(file.read_text())


def test_what_periop_evaluates_itself_is_not_sent(server: FhirStub, tmp_path: Path) -> None:
    arguments = ("terminology", "expand", "nsclc", "--server", server.base, "--out", str(tmp_path))
    code, out, _ = periop(tmp_path, *arguments)
    assert (code, server.requests, list(tmp_path.iterdir())) == (0, [], [])
    assert "nothing to expand" in out


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            Reply(422, {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "too-costly"}]}),
            "the server will not expand so large a value set (too costly)",
        ),
        (
            Reply(
                500,
                {
                    "resourceType": "OperationOutcome",
                    "issue": [{"code": "processing", "diagnostics": "Expansion produced too many codes (maximum 1)"}],
                },
            ),
            "the server will not expand so large a value set (too costly)",
        ),
        (
            Reply(
                404,
                {
                    "resourceType": "OperationOutcome",
                    "issue": [{"code": "not-found", "diagnostics": "Unknown CodeSystem http://snomed.info/sct"}],
                },
            ),
            "refused it with status 404: not-found Unknown CodeSystem http://snomed.info/sct",
        ),
        (Reply(200, {"resourceType": "Bundle"}), "the server returned no ValueSet with an expansion"),
        (Reply(200, {"resourceType": "ValueSet"}), "the server returned no ValueSet with an expansion"),
        (Reply(500, {"error": "no"}), "refused it with status 500: it gave no reason"),
    ],
)
def test_what_a_server_refuses_is_said_in_a_sentence(
    server: FhirStub, file: Path, tmp_path: Path, reply: Reply, said: str
) -> None:
    server.rules.append(lambda request: reply if request.path.endswith("$expand") else None)
    before = file.read_text()
    code, _, err = periop(tmp_path, "terminology", "expand", str(file), "--server", server.base)
    assert code == 1
    assert said in err
    assert "Traceback" not in err
    assert file.read_text() == before


def test_a_server_that_repeats_a_page_is_no_endless_loop(server: FhirStub, file: Path, tmp_path: Path) -> None:
    server.rules.append(paged(["1", "2", "3"], paging=False))
    code, _, err = periop(tmp_path, "terminology", "expand", str(file), "--server", server.base, "--page", "2")
    assert code == 1
    assert "gives the same page again" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing-of-this-name",), "no such file, and no value set of this name"),
        (("recist",), "resourceType: must be ValueSet"),
        (("nsclc",), "is a shipped value set"),
    ],
)
def test_what_cannot_be_expanded(server: FhirStub, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    out = () if arguments == ("nsclc",) else ("--out", str(tmp_path))
    code, _, err = periop(tmp_path, "terminology", "expand", *arguments, "--server", server.base, *out)
    assert code == 2
    assert said in err


# --- credentials: to the server of a site, and to no other ---

TOKEN = "s3cret-token"
SITE = """
[[sites]]
name = "milan"
kind = "search"
url = "{url}"
auth = {{ kind = "bearer", token_env = "MILAN_TOKEN" }}
headers = {{ X-API-Key = {{ env = "MILAN_TOKEN" }} }}
"""


def expanded_as(folder: Path, file: Path, site: str, server: str) -> tuple[int, str]:
    (folder / "periop.toml").write_text(SITE.format(url=site))
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--config", str(folder / "periop.toml"), "terminology", "expand", str(file), "--server", server]
    code = main(arguments, Session(out, err, {"MILAN_TOKEN": TOKEN}, lambda: NOW))
    assert TOKEN not in out.getvalue() + err.getvalue()
    return code, err.getvalue()


@pytest.mark.parametrize("place", ["{base}", "{origin}/terminology"])
def test_the_server_of_a_site_gets_the_credentials_of_the_site(
    server: FhirStub, file: Path, tmp_path: Path, place: str
) -> None:
    answer = paged(["1001"], whole=True)

    def signed_in(request: Request) -> Reply | None:
        request.path = request.path.removeprefix("terminology/")
        signed = request.headers.get("authorization") == f"Bearer {TOKEN}" and request.headers.get("x-api-key") == TOKEN
        return answer(request) if signed else Reply(401)

    server.rules.append(signed_in)
    where = place.format(base=server.base, origin=server.origin)
    assert expanded_as(tmp_path, file, server.base, where) == (0, "")


def test_no_other_server_gets_anything_of_a_site(server: FhirStub, file: Path, tmp_path: Path) -> None:
    server.rules.append(paged(["1001"], whole=True))
    with fhir_stub() as site:
        code, _ = expanded_as(tmp_path, file, site.base, server.base)
        assert (code, site.requests) == (0, [])
    sent = [{name.lower() for name in each.headers} for each in server.requests]
    assert not [names for names in sent if names & {"authorization", "x-api-key"}]


def test_the_words_of_a_server_that_knows_a_secret_are_cleaned(server: FhirStub, file: Path, tmp_path: Path) -> None:
    issue = {"severity": "error", "code": "forbidden", "diagnostics": f"scope is missing for the token {TOKEN}"}
    server.rules.append(lambda _: Reply(403, {"resourceType": "OperationOutcome", "issue": [issue]}))
    code, err = expanded_as(tmp_path, file, server.base, server.base)
    assert code == 1
    assert 'with status 403; it says "forbidden scope is missing for the token …"' in err
