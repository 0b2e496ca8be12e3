"""Faults 67 to 69: servers behind an OAuth server with secrets, a gateway that wants headers, or a proxy, and servers
slower than others. What was meant for one origin reaches no other."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.http.authenticators import NoAuth
from connectors.lake.table import Lake
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.proxy import site_proxy
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.errors import ConfigError
from schedules.run.sources import fhir_client, limits_of, transfer_limits
from tests.smart_servers import (
    FHIR_JSON,
    Answer,
    FakeClock,
    FhirServer,
    Http,
    Reply,
    Request,
    TokenEndpoint,
    cohort,
    served,
)

Serve = Callable[[Answer], Http]
SECRET = "s3cret/+:"
AUTH = 'kind = "client_secret", client_id = "per:iop", client_secret_env = "SECRET"'


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(served(answer))


class Hospital:
    """A folder with `periop.toml`, and what the last command said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = self.err = ""

    def sync(self, url: str, settings: str, **environ: str) -> int:
        """Sync a site at `url`; return the exit code."""
        site = f'[[sites]]\nname = "milan"\nkind = "search"\nurl = "{url}"\n{settings}\n'
        (self.folder / "periop.toml").write_text(f'data_dir = "data"\n{site}')
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(self.folder / "periop.toml"), "sync"], Session(out, err, environ))
        self.out, self.err = out.getvalue(), err.getvalue()
        assert SECRET not in self.out + self.err
        return code

    def patients(self) -> set[str]:
        return set(Lake(self.folder / "data" / "lake").patients("milan"))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def site(**settings: Any) -> SearchSite:
    return SearchSite.model_validate({"name": "milan", "kind": "search", "url": "https://h/fhir", **settings})


# --- 67: client credentials with a secret ---


@pytest.mark.parametrize("sent_in", ["header", "body"])
def test_fault_67_a_secret_buys_a_token(serve: Serve, hospital: Hospital, sent_in: str) -> None:
    tokens = TokenEndpoint(FakeClock(), scope="something-else")
    endpoint = serve(tokens)
    server = serve(FhirServer(cohort(2), lambda token: token in tokens.given))
    more = (
        'audience = "https://a", resource = "https://r", scope = "https://r/.default", token_parameters = { x = "1" }'
    )
    auth = f'{AUTH}, sent_in = "{sent_in}", token_url = "{endpoint.url}/token", {more}'
    assert hospital.sync(server.url, f"auth = {{ {auth} }}", SECRET=SECRET) == 0, hospital.err
    assert hospital.patients() == {"p0", "p1"}
    (request,) = endpoint.requests
    asked = {
        "grant_type": "client_credentials",
        "scope": "https://r/.default",
        "audience": "https://a",
        "resource": "https://r",
        "x": "1",
    }
    if sent_in == "body":
        assert request.form == {**asked, "client_id": "per:iop", "client_secret": SECRET}
        assert "authorization" not in request.headers
    else:
        assert request.form == asked
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        assert pair == "per%3Aiop:s3cret%2F%2B%3A"  # each half encoded as in a form (RFC 6749, 2.3.1)
    assert not any(SECRET.encode() in each.body or "Basic" in str(each.headers) for each in server.requests)


def test_fault_67_a_refused_secret_is_explained(serve: Serve, hospital: Hospital) -> None:
    words = "Client secret of per:iop has expired"
    endpoint = serve(lambda _: Reply({"error": "invalid_client", "error_description": words}, 401))
    server = serve(FhirServer(cohort(1), lambda _: True))
    auth = f'{AUTH}, token_url = "{endpoint.url}/token"'
    assert hospital.sync(server.url, f"auth = {{ {auth} }}", SECRET=SECRET) == 6
    assert (
        f"token: {endpoint.url} does not accept the client or its secret: ask its administrator whether they are "
        "valid, and whether it takes the secret in the header or in the body (`sent_in`) (invalid_client); "
        'it says "Client secret of … has expired"'
    ) in hospital.err
    assert "clock" not in hospital.err


def test_fault_67_a_server_cannot_send_the_secret_elsewhere(serve: Serve, hospital: Hospital) -> None:
    thief = serve(TokenEndpoint(FakeClock()))
    server = serve(FhirServer(cohort(1), lambda _: True, f"{thief.url}/token"))
    assert hospital.sync(server.url, f"auth = {{ {AUTH} }}", SECRET=SECRET) == 1
    assert f"names an endpoint on another origin, {thief.url}, to which the client secret is not sent" in hospital.err
    assert thief.requests == []


def test_fault_67_an_endpoint_on_the_origin_of_the_site_is_found(serve: Serve, hospital: Hospital) -> None:
    tokens = TokenEndpoint(FakeClock())
    fhir = FhirServer(cohort(1), lambda token: token in tokens.given)
    server = serve(lambda request: tokens(request) if request.path == "/token" else fhir(request))
    fhir.token_endpoint = f"{server.url}/token"
    assert hospital.sync(server.url, f"auth = {{ {AUTH} }}", SECRET=SECRET) == 0, hospital.err
    assert hospital.patients() == {"p0"}


# --- 68: headers ---

HEADERS = (
    'headers = { X-API-Key = { env = "KEY" }, Epic-Client-ID = "e-1", X-File = { file = "key" }, user-agent = "us" }'
)


def test_fault_68_each_request_has_the_headers_of_the_site_and_no_other_origin_sees_them(
    serve: Serve, hospital: Hospital
) -> None:
    tokens = TokenEndpoint(FakeClock())
    endpoint = serve(tokens)
    fhir = FhirServer(cohort(2), lambda token: token in tokens.given)

    def gateway(request: Request) -> Reply:
        wanted = {"x-api-key": SECRET, "epic-client-id": "e-1", "x-file": "f-1", "user-agent": "us"}
        if wanted.items() <= request.headers.items():
            return fhir(request)
        return Reply({"resourceType": "OperationOutcome"}, 401, FHIR_JSON)

    server = serve(gateway)
    (hospital.folder / "key").write_text("f-1\n")
    (hospital.folder / "key").chmod(0o600)
    auth = f'auth = {{ {AUTH}, token_url = "{endpoint.url}/token" }}'
    assert hospital.sync(server.url, f"{auth}\n{HEADERS}", KEY=SECRET, SECRET="other") == 0, hospital.err
    assert hospital.patients() == {"p0", "p1"}
    assert not any(name in each.headers for each in endpoint.requests for name in ("x-api-key", "epic-client-id"))


def test_fault_68_a_site_without_credentials_and_a_token_endpoint_of_its_origin_get_them(
    serve: Serve, hospital: Hospital
) -> None:
    tokens = TokenEndpoint(FakeClock())
    fhir = FhirServer(cohort(1), lambda token: token in ("", *tokens.given))

    def gateway(request: Request) -> Reply:
        if request.headers.get("x-api-key") != SECRET:
            return Reply(b"", 403)
        return tokens(request) if request.path == "/token" else fhir(request)

    server = serve(gateway)
    fhir.token_endpoint = f"{server.url}/token"
    headers = 'headers = { X-API-Key = { env = "KEY" } }'
    assert hospital.sync(server.url, headers, KEY=SECRET) == 0, hospital.err
    assert hospital.sync(server.url, f"auth = {{ {AUTH} }}\n{headers}", KEY=SECRET, SECRET="other") == 0, hospital.err
    assert len(tokens.given) == 1


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Authorization": "x"}, "sets Authorization, which periop sets itself; use `auth` for credentials"),
        ({"hOst": "x"}, "sets hOst, which periop sets itself"),
        ({"a b": "x"}, "holds a name that no header can have"),
        ({"X": "a\r\nHost: b"}, "String should match pattern"),
        ({"X": {"env": "A", "file": "b"}}, "give one of env, file"),
        ({"X-A": "1", "x-a": "2"}, "sets a header twice"),
    ],
)
def test_fault_68_a_header_that_must_not_be_set_is_refused(headers: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        site(headers=headers)


def test_fault_68_a_secret_header_needs_https() -> None:
    with pytest.raises(ValueError, match="sends a secret over plain http"):
        site(url="http://fhir.example.org", headers={"X-API-Key": {"env": "KEY"}})


# --- 69: a proxy, and limits of a site ---


def proxy_to(target: Callable[[], str], seen: list[Request]) -> Answer:
    """A proxy for plain http that lets only `me` with the password `pw` through."""

    def answer(request: Request) -> Reply:
        seen.append(request)
        expected = "Basic " + base64.b64encode(b"me:pw").decode()
        if request.headers.get("proxy-authorization") != expected:
            return Reply(b"", 407)
        kept = {name: value for name, value in request.headers.items() if name not in ("proxy-authorization", "host")}
        with httpx.Client(trust_env=False) as client:
            url = f"{target()}{request.path}"
            got = client.get(url, params=dict(request.query), headers={**kept, "Accept-Encoding": "identity"})
        return Reply(got.content, got.status_code, {"Content-Type": got.headers.get("content-type", "")})

    return answer


def test_fault_69_requests_go_through_the_proxy_with_its_password(serve: Serve, hospital: Hospital) -> None:
    server = serve(FhirServer(cohort(2), lambda token: token == "t0ken"))
    seen: list[Request] = []
    proxy = serve(proxy_to(lambda: server.url, seen))
    address = proxy.url.replace("http://", "http://me@")
    auth = 'auth = { kind = "bearer", token_env = "T" }'
    settings = f'{auth}\nproxy = "{address}"\nproxy_password_env = "P"'
    assert hospital.sync(server.url, settings, P="pw", T="t0ken") == 0, hospital.err
    assert hospital.patients() == {"p0", "p1"}
    assert len(seen) == len(server.requests) > 0
    assert not any("proxy-authorization" in each.headers for each in server.requests)


def test_fault_69_the_proxy_of_the_environment_only_when_asked(serve: Serve, hospital: Hospital) -> None:
    server = serve(FhirServer(cohort(1), lambda _: True))
    seen: list[Request] = []
    proxy = serve(proxy_to(lambda: server.url, seen))
    environ = {"http_proxy": proxy.url.replace("http://", "http://me:pw@"), "HTTPS_PROXY": proxy.url}
    assert hospital.sync(server.url, "", **environ) == 0
    assert seen == []
    assert hospital.sync(server.url, 'proxy = "environment"', **environ, NO_PROXY="other.example, 127.0.0.1") == 0
    assert seen == []
    assert hospital.sync(server.url, 'proxy = "environment"', **environ) == 0
    assert len(seen) > 0


def test_fault_69_the_variable_of_the_environment_that_is_taken() -> None:
    def taken(url: str, **environ: str) -> str | None:
        proxy = site_proxy(site(url=url, proxy="environment"), environ)
        return proxy and str(proxy.url)

    assert taken("https://h/fhir", HTTPS_PROXY="p:1", http_proxy="http://q:2") == "http://p:1"
    assert taken("http://h/fhir", HTTPS_PROXY="http://p:1", HTTP_PROXY="http://evil:2") is None
    assert taken("https://h/fhir", ALL_PROXY="http://p:1") == "http://p:1"
    assert taken("https://a.h.org/fhir", https_proxy="http://p:1", no_proxy=".h.org") is None
    assert taken("https://ah.org/fhir", https_proxy="http://p:1", no_proxy="h.org") == "http://p:1"
    with pytest.raises(ConfigError, match="environment variable https_proxy: names no http or https proxy") as caught:
        taken("https://h/fhir", https_proxy="ftp://me:pw@p")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"proxy": "http://me:pw@p:1"}, "holds a password; put it into proxy_password_env or proxy_password_file"),
        ({"proxy": "socks5://p:1"}, "must be an address like"),
        ({"proxy": "http://me@p:1"}, "needs the user of the proxy and its password together"),
        ({"proxy": "http://p:1", "proxy_password_env": "P"}, "needs the user of the proxy and its password together"),
    ],
)
def test_fault_69_a_proxy_that_cannot_be_one_is_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        site(**settings)


def test_fault_69_a_site_has_limits_of_its_own() -> None:
    slow = site(limits={"read_seconds": 7, "page_size": 5})
    settings = Settings(sites=(slow,))
    assert (limits_of(settings, slow).page_size, limits_of(settings, slow).connect_seconds) == (5, 10)
    assert limits_of(settings, site()) == settings.limits
    client = fhir_client(slow, NoAuth(), transfer_limits(settings, slow, {}), {})
    assert client._own_http.timeout == httpx.Timeout(7, connect=10)


def test_fault_69_the_pages_of_a_site_are_of_its_own_size(serve: Serve, hospital: Hospital) -> None:
    server = serve(FhirServer(cohort(3), lambda _: True))
    assert hospital.sync(server.url, "limits = { page_size = 2 }") == 0
    assert hospital.patients() == {"p0", "p1", "p2"}
    assert {each.query["_count"] for each in server.requests if each.path == "/Condition" and "code" in each.query} == {
        "2"
    }
