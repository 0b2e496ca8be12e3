"""Fault 70: what a run asked is shown with -v, and its headers with -vv, without a value that may be a secret."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.smart_servers import FakeClock, FhirServer, Http, Request, TokenEndpoint, cohort, served

SECRETS = ("s3cret", "token-1", "k3y", "Patient/p0", "p0", "client-id")


def run(folder: Path, verbosity: list[str]) -> tuple[str, Http, Http]:
    """Sync a site with a client secret and a header; return what was said, its server and its token server."""
    tokens = TokenEndpoint(FakeClock())
    fhir = FhirServer(cohort(2), lambda token: token in tokens.given)
    with served(tokens) as endpoint, served(fhir) as server:
        auth = f'kind = "client_secret", client_id = "client-id", client_secret_env = "S", token_url = "{endpoint.url}"'
        (folder / "periop.toml").write_text(
            f'data_dir = "data"\n[[sites]]\nname = "milan"\nkind = "search"\nurl = "{server.url}"\n'
            f'auth = {{ {auth} }}\nheaders = {{ X-Key = {{ env = "K" }} }}\n'
        )
        out, err = io.StringIO(), io.StringIO()
        session = Session(out, err, {"S": "s3cret", "K": "k3y"})
        assert main([*verbosity, "--config", str(folder / "periop.toml"), "sync"], session) == 0, err.getvalue()
    assert [secret for secret in SECRETS if secret in out.getvalue() + err.getvalue()] == []
    return err.getvalue(), server, endpoint


def lines(said: str) -> list[str]:
    return re.findall(r"DEBUG connectors\.http\.requests: (.*)", said)


def shape(request: Request) -> str:
    return f"{request.method} {request.path.strip('/')}?{'&'.join(request.query)}".rstrip("?")


def test_fault_70_each_request_is_a_line_with_v(tmp_path: Path) -> None:
    said, server, _ = run(tmp_path, ["-v"])
    sent = [line.split(":")[0] for line in lines(said)]
    assert sorted(sent) == sorted(["POST token", *map(shape, server.requests)])
    patients = next(line for line in lines(said) if line.startswith("GET Patient?_id&_count"))
    assert re.fullmatch(r"GET Patient\?_id&_count\S*: 200, \d+\.\d\d s, \d+ bytes", patients)
    assert int(patients.split()[-2]) > 100
    assert "connectors.http.headers" not in said


def test_fault_70_headers_with_vv_and_of_secrets_only_the_name(tmp_path: Path) -> None:
    said, _, _ = run(tmp_path, ["-vv"])
    assert re.search(r"GET Patient\S* sends: accept: application/fhir\+json;.* x-key: …; authorization: …", said)
    assert re.search(r"GET Patient\S* receives: content-type: application/fhir\+json; content-length: \d+", said)
    assert re.search(r"POST token sends: .*Authorization: …", said)


def test_fault_93_stages_counts_and_durations_with_v(tmp_path: Path) -> None:
    said, _, _ = run(tmp_path, ["-v"])
    assert re.search(r"DEBUG schedules\.cli\.progress: milan: 2 Patient received", said)
    assert re.search(r"DEBUG schedules\.cli\.progress: synchronising took \d+\.\d s", said)


def test_fault_70_nothing_without_v(tmp_path: Path) -> None:
    assert "DEBUG" not in run(tmp_path, [])[0]


@pytest.mark.parametrize("verbosity", [["-v"], ["-vv"]])
def test_fault_70_a_request_without_an_answer_is_a_line_too(tmp_path: Path, verbosity: list[str]) -> None:
    with served(lambda _: pytest.fail("gone")) as server:
        pass
    err = io.StringIO()
    (tmp_path / "periop.toml").write_text(
        f'data_dir = "data"\n[[sites]]\nname = "milan"\nkind = "search"\nurl = "{server.url}"\n'
    )
    session = Session(io.StringIO(), err, {})
    assert main([*verbosity, "--config", str(tmp_path / "periop.toml"), "check"], session) == 1
    assert "GET metadata: no answer (ConnectError), 0." in err.getvalue()
