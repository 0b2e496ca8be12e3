"""Certificates, against a real TLS server that asks for one: mutual TLS with every kind of `auth`, and one sentence,
after one attempt, where a certificate is wrong."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from connectors.auth.clients import RegisteredClient
from connectors.auth.keys import private_jwk
from connectors.auth.token_endpoint import TokenEndpoint as TokenClient
from connectors.errors import TlsError
from connectors.http.client import FhirClient
from connectors.http.origin_policy import parse_address, pin_ip
from connectors.http.retry import TransferLimits
from schedules.config.credentials import client_ssl_context
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.run.sources import authenticator
from tests.certificates import Certificates, make_certificates
from tests.smart_servers import KEY, Answer, FakeClock, FhirServer, Http, TokenEndpoint, cohort, served

Serve = Callable[..., Http]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve(certificates: Certificates) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(answer: Answer, asks: ssl.VerifyMode = ssl.CERT_NONE) -> Http:
            return stack.enter_context(served(answer, certificates.server(asks)))

        yield start


def site(certificates: Certificates, url: str, **changes: Any) -> SearchSite:
    files = {"client_cert_file": certificates.client_cert, "client_key_file": certificates.client_key}
    content = {"name": "milan", "kind": "search", "url": url, "ca_file": certificates.ca}
    return SearchSite.model_validate({**content, **files, **changes})


def read(configured: SearchSite, clock: FakeClock, environ: dict[str, str]) -> bytes:
    settings = Settings(sites=(configured,))
    auth = authenticator(settings, configured, environ)
    verify = client_ssl_context(configured, environ)
    with FhirClient(configured.url, auth, clock=clock.as_clock(), verify=verify) as client:
        return client.get_parsed(f"{configured.url}/Patient?_count=10", "Patient", bytes)


def anybody(_: str) -> bool:
    return True


# --- mutual TLS ---


@pytest.mark.parametrize(
    "auth",
    [
        {"kind": "none"},
        {"kind": "basic", "username": "u", "password_env": "SECRET"},
        {"kind": "bearer", "token_env": "SECRET"},
    ],
    ids=lambda auth: auth["kind"],
)
def test_a_client_certificate_goes_with_every_kind_of_auth(
    serve: Serve, certificates: Certificates, auth: dict[str, str]
) -> None:
    server = serve(FhirServer(cohort(1), anybody), ssl.CERT_REQUIRED)
    assert b"p0" in read(site(certificates, server.url, auth=auth), FakeClock(), {"SECRET": "s"})
    assert [request.certificate for request in server.requests] == [True]


def smart_auth(folder: Path, **more: str) -> dict[str, str]:
    file = folder / "key.json"
    file.write_text(json.dumps(private_jwk(KEY)))
    file.chmod(0o600)
    return {"kind": "smart", "client_id": "periop", "key_file": str(file), **more}


def test_fault_09_another_origin_gets_no_client_certificate(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """The token endpoint that the server names is on another port: it gets the signed statement alone."""
    endpoint = serve(TokenEndpoint(FakeClock()), ssl.CERT_OPTIONAL)
    server = serve(FhirServer(cohort(1), lambda token: token == "token-1", f"{endpoint.url}/token"), ssl.CERT_REQUIRED)
    assert b"p0" in read(site(certificates, server.url, auth=smart_auth(tmp_path)), FakeClock(), {})
    assert {request.certificate for request in server.requests} == {True}
    assert [request.certificate for request in endpoint.requests] == [False]


def test_a_configured_token_endpoint_gets_the_client_certificate(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    endpoint = serve(TokenEndpoint(FakeClock()), ssl.CERT_REQUIRED)
    server = serve(FhirServer(cohort(1), lambda token: token == "token-1"), ssl.CERT_REQUIRED)
    auth = smart_auth(tmp_path, token_url=f"{endpoint.url}/token")
    assert b"p0" in read(site(certificates, server.url, auth=auth), FakeClock(), {})
    assert [request.certificate for request in endpoint.requests] == [True]


def test_a_token_endpoint_beside_the_server_gets_the_client_certificate(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    tokens = TokenEndpoint(FakeClock())
    fhir = FhirServer(cohort(1), lambda token: token == "token-1")
    server = serve(lambda request: tokens(request) if request.method == "POST" else fhir(request), ssl.CERT_REQUIRED)
    fhir.token_endpoint = f"{server.url}/oauth/token"
    assert b"p0" in read(site(certificates, server.url, auth=smart_auth(tmp_path)), FakeClock(), {})
    assert {request.certificate for request in server.requests} == {True}


# --- a wrong certificate ---


@pytest.mark.parametrize("ca", ["other_ca", None])
def test_an_authority_that_is_not_trusted_is_one_sentence_after_one_attempt(
    serve: Serve, certificates: Certificates, ca: str | None
) -> None:
    clock = FakeClock()
    server = serve(FhirServer(cohort(1), anybody))
    trusting = site(certificates, server.url, ca_file=getattr(certificates, ca) if ca else None)
    with pytest.raises(TlsError) as caught:
        read(trusting, clock, {})
    (line,) = str(caught.value).splitlines()
    assert "ca_file" in line
    assert f"https://localhost:{server.port}" in line
    assert (clock.slept, server.connections, server.requests) == ([], 1, [])


def test_a_token_endpoint_that_is_not_trusted_is_one_sentence_after_one_attempt(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock))
    auth = smart_auth(tmp_path, token_url=f"{endpoint.url}/token")
    trusting = site(certificates, "https://fhir.example.org", auth=auth, ca_file=certificates.other_ca)
    with pytest.raises(TlsError, match=r"token: .*ca_file"):
        read(trusting, clock, {})
    assert (clock.slept, endpoint.connections, endpoint.requests) == ([], 1, [])


def test_a_certificate_of_another_host_is_refused(serve: Serve, certificates: Certificates) -> None:
    server = serve(FhirServer(cohort(1), anybody))
    elsewhere = site(certificates, server.url.replace("localhost", "127.0.0.1"))
    with pytest.raises(TlsError, match="correct the host name in `url`"):
        read(elsewhere, FakeClock(), {})
    assert server.requests == []


def test_a_server_that_asks_for_a_certificate_that_is_not_given_is_a_sentence(
    serve: Serve, certificates: Certificates
) -> None:
    server = serve(FhirServer(cohort(1), anybody), ssl.CERT_REQUIRED)
    without = site(certificates, server.url, client_cert_file=None, client_key_file=None)
    with pytest.raises(TlsError, match="client_cert_file"):
        read(without, FakeClock(), {})
    assert server.requests == []


def test_fault_10_a_connection_to_a_checked_address_keeps_the_name_of_the_certificate(
    serve: Serve, certificates: Certificates
) -> None:
    """The address is in the URL, the name in TLS and in Host: the certificate is that of the name."""
    server = serve(TokenEndpoint(FakeClock()))
    trusting = site(certificates, server.url, client_cert_file=None, client_key_file=None)
    clock, limits = FakeClock().as_clock(), TransferLimits()
    for name, fits in (("localhost", True), ("sso.example.org", False)):
        url = f"https://{name}:{server.port}/token"
        target = pin_ip(url, parse_address("127.0.0.1"))
        client, tls = RegisteredClient("periop", KEY), client_ssl_context(trusting, {})
        endpoint = TokenClient(url, target, client, limits, clock, None, lambda: "one", tls)
        if fits:
            assert endpoint.token(["system/*.rs"]).value == "token-1"
        else:
            with pytest.raises(TlsError, match="correct the host name"):
                endpoint.token(["system/*.rs"])
    assert [request.headers["host"] for request in server.requests] == [f"localhost:{server.port}"]
