"""The faults of credentials, by their numbers: 401 in mid-sync, a token endpoint that fails, other origins, addresses
inside the network, login pages, secrets in what is shown."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.auth.keys import private_jwk
from connectors.auth.smart import SmartAuth
from connectors.errors import (
    AuthenticationError,
    ConnectorError,
    DeferredError,
    ForeignOriginError,
    UnavailableError,
)
from connectors.http.authenticators import Authenticator, BasicAuth, BearerAuth
from connectors.http.client import FhirClient
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.search.requests import SearchLimits
from connectors.sources.search.source import CohortQuery, SearchSource
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.smart_servers import (
    FHIR_JSON,
    KEY,
    START,
    TYPES,
    Answer,
    FakeClock,
    FhirServer,
    Http,
    Reply,
    Request,
    TokenEndpoint,
    cohort,
    served,
    smart,
)

Serve = Callable[[Answer], Http]
PATIENTS = 6


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(served(answer))


def source(base: str, auth: Authenticator, clock: FakeClock) -> SearchSource:
    query = CohortQuery("Condition", (("code", "http://snomed.info/sct|254637007"),))
    limits = SearchLimits(page_size=2, streams=1)  # in order, so that each page takes its time
    return SearchSource(base, query, TYPES, auth, limits, clock=clock.as_clock())


def sync(folder: Path, base: str, auth: Authenticator, clock: FakeClock) -> SyncReport:
    return sync_site(source(base, auth, clock), Lake(folder / "lake"), "milan", Quarantine(folder / "quarantine"))


def answer_of(content: object) -> httpx.Response:
    """An answer that comes over the wire, not one that is read already."""
    return httpx.Response(200, stream=httpx.ByteStream(json.dumps(content).encode()))


def get(base: str, auth: Authenticator, clock: FakeClock) -> bytes:
    with FhirClient(base, auth, clock=clock.as_clock()) as client:
        return client.get_parsed(f"{base}/Patient?_count=10", "Patient", bytes)


# --- 5: a token that ends in mid-sync ---


def test_fault_05_a_token_ends_in_mid_sync_and_nothing_is_lost(serve: Serve, tmp_path: Path) -> None:
    """The token server says 300 s, but the tokens end after 50 s: only a 401 tells."""
    clock = FakeClock()
    tokens = TokenEndpoint(clock, expires_in=300)
    fhir = FhirServer(cohort(PATIENTS), lambda token: clock.seconds - tokens.given[token] < 50, clock=clock)
    fhir.page_seconds = 20
    server = serve(fhir)
    fhir.token_endpoint = serve(tokens).url + "/token"
    report = sync(tmp_path, server.url, smart(server.url, clock), clock)
    assert report.status == "ok"
    assert report.counts.stored == 3 * PATIENTS
    assert fhir.refused == len(tokens.given) - 1 >= 4  # one new token for each that was refused, three pages each


def test_fault_05_a_second_401_for_the_same_page_stops_the_site(serve: Serve, tmp_path: Path) -> None:
    clock = FakeClock()
    tokens = TokenEndpoint(clock)
    fhir = FhirServer(cohort(PATIENTS), lambda token: token == "token-1" and clock.seconds < 50, clock=clock)
    fhir.page_seconds = 20
    server = serve(fhir)
    fhir.token_endpoint = serve(tokens).url + "/token"
    with pytest.raises(AuthenticationError, match=r"does not accept the credentials \(401\)"):
        sync(tmp_path, server.url, smart(server.url, clock), clock)
    assert (len(tokens.given), fhir.refused) == (2, 2)
    assert Lake(tmp_path / "lake").cursor("milan") is None


def test_fault_05_many_threads_renew_a_token_once(serve: Serve) -> None:
    clock = FakeClock()
    tokens = TokenEndpoint(clock)
    fhir = FhirServer(cohort(1), lambda token: token == f"token-{len(tokens.given)}" and len(tokens.given) > 1)
    server = serve(fhir)
    fhir.token_endpoint = serve(tokens).url + "/token"
    auth = smart(server.url, clock)
    with FhirClient(server.url, auth, clock=clock.as_clock()) as one, FhirClient(server.url, auth) as other:
        auth.headers()
        with ThreadPoolExecutor(8) as pool:
            url = f"{server.url}/Patient?_count=10"
            asked = [pool.submit((one, other)[n % 2].get_parsed, url, "Patient", bytes) for n in range(16)]
            assert all(b"p0" in each.result() for each in asked)
    assert list(tokens.given) == ["token-1", "token-2"]


def test_fault_05_who_comes_late_with_the_old_token_gets_the_new_one(serve: Serve) -> None:
    """Two threads used token-1 and both got a 401: the second finds that there is another one already."""
    tokens = TokenEndpoint(FakeClock())
    auth = smart("https://fhir.example.org", FakeClock(), token_url=f"{serve(tokens).url}/token")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in (one, other):
            assert thread.submit(auth.headers).result() == {"Authorization": "Bearer token-1"}
        assert [thread.submit(auth.renew).result() for thread in (one, other)] == [True, True]
        assert list(tokens.given) == ["token-1", "token-2"]
        assert other.submit(auth.headers).result() == {"Authorization": "Bearer token-2"}
        other.submit(auth.renew).result()
    assert list(tokens.given) == ["token-1", "token-2", "token-3"]


@pytest.mark.parametrize("auth", [BearerAuth("t"), BasicAuth("u", "p")])
def test_fault_05_credentials_that_cannot_be_renewed_are_sent_once(serve: Serve, auth: Authenticator) -> None:
    fhir = FhirServer(cohort(1), lambda _: False)
    server = serve(fhir)
    with pytest.raises(AuthenticationError, match="check `auth` of the site"):
        get(server.url, auth, FakeClock())
    assert fhir.refused == 1


# --- 6: a token endpoint that fails ---


def statements(endpoint: Http) -> list[dict[str, object]]:
    """The statements that arrived, each checked with the public key."""
    return [
        jwt.decode(
            request.form["client_assertion"],
            KEY.key.public_key(),
            algorithms=["ES384"],
            audience=f"{endpoint.url}/token",
            options={"verify_exp": False, "verify_iat": False},
        )
        for request in endpoint.requests
    ]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_fault_06_token_endpoint_5xx(serve: Serve, status: int) -> None:
    """A new `jti` and a new `exp` each time, with growing waits: half of 1 s and of 2 s, as chance is 0."""
    clock = FakeClock()
    failing = Reply(b"", status, {})
    endpoint = serve(TokenEndpoint(clock, failing, failing))
    auth = smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token")
    assert auth.headers() == {"Authorization": "Bearer token-1"}
    assert clock.slept == [0.5, 1.0]
    sent, begin = statements(endpoint), int(START.timestamp())
    assert len({each["jti"] for each in sent}) == 3
    assert [each["exp"] for each in sent] == [begin + 240, begin + 240, begin + 241]
    assert all(each["iss"] == each["sub"] == "periop" for each in sent)


def test_fault_06_the_wait_that_the_endpoint_asks_for_is_kept(serve: Serve) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock, Reply(b"", 503, {"Retry-After": "90"})))
    smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token").headers()
    first, second = statements(endpoint)
    assert clock.slept == [90.0]
    assert int(str(second["exp"])) - int(str(first["exp"])) == 90


def test_fault_06_an_endpoint_that_stays_away_is_asked_six_times_and_not_again(serve: Serve) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock, *[Reply(b"", 500, {})] * 12))
    auth = smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token")
    for _ in range(2):
        with pytest.raises(
            UnavailableError, match=r"token: .* gave status 500 in 6 attempts: the next run tries again"
        ):
            auth.headers()
    assert len(endpoint.requests) == 6


def test_fault_06_a_wait_beyond_the_run_defers_the_site(serve: Serve) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock, Reply(b"", 429, {"Retry-After": "80000"})))
    with pytest.raises(DeferredError):
        smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token").headers()


def test_fault_06_a_connection_that_breaks_is_tried_again_with_a_new_statement() -> None:
    clock, seen = FakeClock(), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(dict(httpx.QueryParams(request.content.decode())))
        if len(seen) < 3:
            raise httpx.ReadError("reset")
        return answer_of({"access_token": "t", "expires_in": 300, "scope": "system/*.rs"})

    mock = httpx.MockTransport(handle)
    auth = smart("https://fhir.example.org", clock, token_url="https://sso.example.org/token", http_transport=mock)
    assert auth.headers() == {"Authorization": "Bearer t"}
    assert len({each["client_assertion"] for each in seen}) == 3


# --- 9: other origins ---


def test_fault_09_the_endpoint_gets_the_statement_and_nothing_else(serve: Serve) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock))
    fhir = FhirServer(cohort(1), lambda token: token == "token-1", f"{endpoint.url}/token")
    server = serve(fhir)
    assert b"p0" in get(server.url, smart(server.url, clock), clock)
    (request,) = endpoint.requests
    assert "authorization" not in request.headers
    assert set(request.form) == {"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"}
    assert not any("client_assertion" in str(each.query) for each in [*server.requests, *endpoint.requests])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_fault_09_a_redirect_of_the_token_endpoint_is_refused(serve: Serve, status: int) -> None:
    clock = FakeClock()
    elsewhere = serve(TokenEndpoint(clock))
    moved = Reply(b"", status, {"Location": f"{elsewhere.url}/token"})
    endpoint = serve(TokenEndpoint(clock, moved))
    with pytest.raises(AuthenticationError, match=rf"redirects \({status}\), which is refused: set token_url"):
        smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token").headers()
    assert elsewhere.requests == []


def test_fault_09_a_redirect_of_the_discovery_is_not_followed(serve: Serve) -> None:
    clock = FakeClock()
    elsewhere = serve(lambda _: Reply({"token_endpoint": "https://sso.example.org/token"}))
    server = serve(lambda request: Reply(b"", 302, {"Location": elsewhere.url + request.path}))
    with pytest.raises(AuthenticationError, match="names no token endpoint"):
        smart(server.url, clock).headers()
    assert elsewhere.requests == []


def test_fault_09_proxies_of_the_environment_are_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda _: Reply(b"", 500))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.setenv("NO_PROXY", "")
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock))
    smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token").headers()
    assert (len(endpoint.requests), proxy.requests) == (1, [])


# --- 10: addresses that a server may not send us to ---


class RecordingTransport(httpx.BaseTransport):
    """A network that names `endpoint` as the token endpoint and remembers where requests went."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.posted: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return answer_of({"token_endpoint": self.endpoint})
        self.posted.append(request)
        return answer_of({"access_token": "t", "expires_in": 300, "scope": "system/*.rs"})


def discovering(base: str, endpoint: str, *addresses: str) -> tuple[SmartAuth, RecordingTransport]:
    http_transport = RecordingTransport(endpoint)
    return smart(
        base, FakeClock(), http_transport=http_transport, resolve=lambda _host, _port: addresses
    ), http_transport


@pytest.mark.parametrize(
    "endpoint",
    [
        "file:///etc/passwd",
        "http://fhir.example.org/token",  # http after https
        "http://sso.example.org/token",
        "https://127.0.0.1/token",
        "https://[::1]/token",
        "https://[::ffff:127.0.0.1]/token",
        "https://10.1.2.3/token",
        "https://192.168.1.1/token",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/token",
        "https://100.64.0.1/token",
        "https://u:p@fhir.example.org/token",
        "//sso.example.org/token",
        "/token",
        "",
        "https://",
    ],
)
def test_fault_10_an_endpoint_inside_the_network_is_refused(endpoint: str) -> None:
    auth, http_transport = discovering("https://fhir.example.org/r4", endpoint, "8.8.8.8")
    with pytest.raises(ForeignOriginError):
        auth.headers()
    assert http_transport.posted == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.1.1", "fd00::1", "fe80::1%eth0", "::1"])
def test_fault_10_a_name_that_leads_inside_the_network_is_refused(address: str) -> None:
    auth, http_transport = discovering(
        "https://fhir.example.org/r4", "https://sso.example.org/token", "8.8.8.8", address
    )
    with pytest.raises(
        ForeignOriginError, match=r"at a private address, https://sso\.example\.org:443: refused; .*set"
    ):
        auth.headers()
    assert http_transport.posted == []


def test_fault_10_the_request_goes_to_the_address_that_was_looked_at() -> None:
    """Or else a name that is asked again for the connection could lead inside."""
    auth, http_transport = discovering(
        "https://fhir.example.org/r4", "https://sso.example.org:8443/token?a=b", "8.8.8.8"
    )
    auth.headers()
    (request,) = http_transport.posted
    assert str(request.url) == "https://8.8.8.8:8443/token?a=b"
    assert request.headers["host"] == "sso.example.org:8443"
    assert request.extensions["sni_hostname"] == "sso.example.org"


@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("https://10.1.2.3/fhir", "https://10.1.2.3/token"),
        ("https://10.1.2.3/fhir", "https://10.1.2.3:8443/token"),
        ("http://127.0.0.1:8080/fhir", "http://localhost:9090/token"),
        ("http://fhir.example.org/fhir", "http://fhir.example.org/token"),
    ],
)
def test_fault_10_the_host_of_the_site_may_be_private(base: str, endpoint: str) -> None:
    auth, http_transport = discovering(base, endpoint)
    auth.headers()
    assert [str(each.url) for each in http_transport.posted] == [endpoint]


def test_fault_10_a_configured_endpoint_may_be_private() -> None:
    http_transport = RecordingTransport("")
    smart(
        "https://fhir.example.org", FakeClock(), token_url="https://10.0.0.7/token", http_transport=http_transport
    ).headers()
    assert [str(each.url) for each in http_transport.posted] == ["https://10.0.0.7/token"]


# --- 21: a web page instead of an answer ---

PAGE = Reply(b"\n<!DOCTYPE html><html><form>Password</form></html>", 200, {"Content-Type": "text/html"})


def test_fault_21_a_login_page_as_a_token_is_an_authentication_error(serve: Serve) -> None:
    endpoint = serve(lambda _: PAGE)
    auth = smart("https://fhir.example.org", FakeClock(), token_url=f"{endpoint.url}/token")
    with pytest.raises(AuthenticationError, match="answered with a web page, probably its login"):
        auth.headers()
    assert len(endpoint.requests) == 1


def test_fault_21_a_login_page_as_a_resource_is_an_authentication_error(serve: Serve, tmp_path: Path) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock))
    server = serve(lambda request: PAGE)
    auth = smart(server.url, clock, token_url=f"{endpoint.url}/token")
    with pytest.raises(AuthenticationError, match="answered with a web page, probably its login"):
        sync(tmp_path, server.url, auth, clock)


def test_fault_21_a_login_page_as_the_discovery_document_is_none(serve: Serve) -> None:
    endpoint = serve(TokenEndpoint(FakeClock()))
    extension = [{"url": "token", "valueUri": f"{endpoint.url}/token"}]
    oauth = {"url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris", "extension": extension}
    statement = {"resourceType": "CapabilityStatement", "rest": [{"security": {"extension": [oauth]}}]}
    server = serve(lambda request: Reply(statement) if request.path == "/metadata" else PAGE)
    assert smart(server.url, FakeClock()).headers() == {"Authorization": "Bearer token-1"}


# --- 29: secrets in what is shown ---

CANARY = "CANARY-of-a-secret"


def shown_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def leaks(server: Http) -> Callable[[Request], Reply]:
    """A token server that quotes what it was sent, as some do."""

    def answer(request: Request) -> Reply:
        sent = request.form["client_assertion"]
        return Reply({"error": "invalid_client", "error_description": f"bad {sent} {CANARY}"}, 401)

    server.answer = answer
    return answer


def secrets_of(*servers: Http) -> set[str]:
    """What no text may hold: statements and tokens that went over the wire, and the private key."""
    wire = [request for server in servers for request in server.requests]
    statements = {request.form["client_assertion"] for request in wire if request.body}
    parts = {part for statement in statements for part in statement.split(".")[1:]}
    pem = KEY.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode().splitlines()[1:-1]
    return {
        CANARY,
        private_jwk(KEY)["d"],
        *pem,
        *statements,
        *parts,
        *(request.bearer for request in wire if request.bearer),
    }


def test_fault_29_no_secret_in_an_error_a_repr_or_a_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    endpoint = serve(TokenEndpoint(clock))
    leaks(endpoint)
    auth = smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token", client_id=CANARY)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationError) as caught:
        auth.headers()
    text = shown_of(caught.value) + repr(auth) + str(vars(auth)["client"]) + caplog.text
    assert [secret for secret in secrets_of(endpoint) if secret in text] == []


def test_fault_29_no_secret_in_a_report_a_url_or_a_log(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    tokens = TokenEndpoint(clock, scope="system/Patient.rs system/Condition.rs")
    endpoint = serve(tokens)
    fhir = FhirServer(cohort(2), lambda token: token in tokens.given, f"{endpoint.url}/token")
    server = serve(fhir)
    auth = smart(server.url, clock, client_id=CANARY)
    with caplog.at_level(logging.DEBUG):
        report = sync(tmp_path, server.url, auth, clock)
    held = "".join(str(file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
    urls = "".join(f"{each.path}{each.query}" for each in [*server.requests, *endpoint.requests])
    text = repr(report) + repr(auth) + repr(auth._token) + caplog.text + urls + held
    assert [secret for secret in secrets_of(server, endpoint) if secret in text] == []


# --- what was granted ---


def test_a_scope_that_was_left_out_is_named_and_the_rest_is_read(serve: Serve, tmp_path: Path) -> None:
    clock = FakeClock()
    tokens = TokenEndpoint(clock, scope="system/Patient.rs system/Condition.read system/AdverseEvent.*")
    fhir = FhirServer(cohort(2), lambda token: token in tokens.given)
    server = serve(fhir)
    fhir.token_endpoint = serve(tokens).url + "/token"
    report = sync(tmp_path, server.url, smart(server.url, clock), clock)
    assert report.status == "partial"
    problem = report.messages[0]
    assert problem == (
        "the token does not let us read every MedicationAdministration, Procedure, Observation: ask the server's "
        "administrator to allow system/MedicationAdministration.rs, system/Procedure.rs, system/Observation.rs for "
        "the client"
    )


@pytest.mark.parametrize("scope", ["", "system/Patient.rs", "system/Condition.rs?category=problem-list-item"])
def test_a_cohort_that_may_not_be_read_stops_the_site(serve: Serve, tmp_path: Path, scope: str) -> None:
    clock = FakeClock()
    fhir = FhirServer(cohort(2), lambda token: True)
    server = serve(fhir)
    fhir.token_endpoint = serve(TokenEndpoint(clock, scope=scope)).url + "/token"
    with pytest.raises(AuthenticationError, match=r"allow .*system/Condition\.rs"):
        sync(tmp_path, server.url, smart(server.url, clock), clock)


# --- what the endpoint says ---


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": "invalid_client"}, 401), "register the client_id of `auth` with the public key"),
        (Reply({"error": "invalid_client"}, 400), r"which `periop keys show` prints \(invalid_client\)"),
        (Reply({"error": "invalid_scope"}, 400), r"to allow system/Patient\.rs, system/Condition\.rs"),
        (Reply({"error": "unauthorized_client"}, 400), "allow client_credentials"),
        (Reply({"error": "invalid_request"}, 400), "what its token endpoint expects"),
        (Reply({"error": "<script>"}, 400), r"gave no token \(400\): check token_url"),
        (Reply(b"not found", 404), r"gave no token \(404\): check token_url"),
        (Reply([1], 405), r"gave no token \(405\)"),
        (Reply({"error": "invalid_client", "error_description": "jwt expired"}, 401), "compare the clocks"),
        (Reply({"error": "invalid_client", "error_description": "exp too far ahead"}, 400), "compare the clocks"),
        (
            Reply({"error": "invalid_client"}, 401, {"Date": "Tue, 24 Nov 2026 01:20:00 GMT"}),
            r"the clock of this machine is 600 s ahead of the server's; set it right \(NTP\)",
        ),
        (
            Reply({"error": "invalid_client"}, 401, {"Date": "Tue, 24 Nov 2026 01:32:30 GMT"}),
            "the clock of this machine is 150 s behind the server's",
        ),
        (Reply({"access_token": "a b"}), "without a usable bearer token"),
        (Reply({"access_token": "a\r\nX: y"}), "without a usable bearer token"),
        (Reply({"access_token": "a", "token_type": "mac"}), "without a usable bearer token"),
        (Reply({"token": "a"}), "without a usable bearer token"),
        (Reply(b"{"), "without a usable bearer token"),
        (Reply(b"[" * 100_000), "without a usable bearer token"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_final(serve: Serve, reply: Reply, said: str) -> None:
    endpoint = serve(lambda _: reply)
    auth = smart("https://fhir.example.org", FakeClock(), token_url=f"{endpoint.url}/token")
    for _ in range(2):
        with pytest.raises(AuthenticationError, match=said) as caught:
            auth.headers()
    assert len(endpoint.requests) == 1
    assert isinstance(caught.value, ConnectorError)
    assert str(caught.value).startswith(f"token: http://127.0.0.1:{endpoint.port} ")


def test_an_algorithm_that_the_server_does_not_take_is_named(serve: Serve) -> None:
    clock = FakeClock()
    endpoint = serve(lambda _: Reply({"error": "invalid_client"}, 401))
    declared = {
        "token_endpoint": f"{endpoint.url}/token",
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384"],
    }
    server = serve(lambda _: Reply(declared))
    with pytest.raises(
        AuthenticationError, match="it takes RS384 and the key is for ES384; `periop keys new --alg RS384`"
    ):
        smart(server.url, clock).headers()


@pytest.mark.parametrize(
    ("expires_in", "lasts"),
    [
        (300, 270.0),
        ("3600", 3570.0),
        (2, 1.6),
        (0, 0.0),
        (-7, 0.0),
        (None, 270.0),
        (True, 270.0),
        ("soon", 270.0),
        pytest.param(10**400, 270.0, id="huge"),
        (1e18, 86_370.0),
    ],
)
def test_a_token_is_used_until_shortly_before_its_end(serve: Serve, expires_in: object, lasts: float) -> None:
    clock = FakeClock()
    tokens = TokenEndpoint(clock, expires_in=expires_in)
    endpoint = serve(tokens)
    auth = smart("https://fhir.example.org", clock, token_url=f"{endpoint.url}/token")
    auth.headers()
    clock.pass_by(lasts - 0.001 if lasts else 0.0)
    auth.headers()
    assert len(tokens.given) == (1 if lasts else 2)
    clock.pass_by(0.002)
    auth.headers()
    assert len(tokens.given) == (2 if lasts else 3)


def test_the_private_half_is_what_the_test_looks_for() -> None:
    """Guard of the canary tests: they would pass if they looked for nothing."""
    assert len(private_jwk(KEY)["d"]) == 64
    assert json.dumps(private_jwk(KEY)).count(KEY.kid) == 1


AUTHS = {
    "basic": f'auth = {{ kind = "basic", username = "u-{CANARY}", password_env = "SECRET" }}',
    "bearer": 'auth = { kind = "bearer", token_env = "SECRET" }',
    "smart": 'auth = { kind = "smart", client_id = "periop", key_file = "key.json", token_url = "%s/token" }',
}


@pytest.mark.parametrize("kind", AUTHS)
def test_fault_29_no_secret_in_what_a_run_says_and_leaves(serve: Serve, tmp_path: Path, kind: str) -> None:
    """A server that quotes the credentials in its refusal, and a run that says all it can."""

    def quoting(request: Request) -> Reply:
        if request.method == "POST":
            return Reply({"access_token": f"{CANARY}-token", "expires_in": 300, "scope": "system/*.rs"})
        quoted = {"severity": "error", "code": "login", "diagnostics": request.headers.get("authorization", "")}
        return Reply({"resourceType": "OperationOutcome", "issue": [quoted]}, 401, FHIR_JSON)

    server = serve(quoting)
    (tmp_path / "key.json").write_text(json.dumps(private_jwk(KEY)))
    (tmp_path / "key.json").chmod(0o600)
    auth = AUTHS[kind] % server.url if kind == "smart" else AUTHS[kind]
    site = f'[[sites]]\nname = "milan"\nkind = "search"\nurl = "{server.url}"\n{auth}\n'
    (tmp_path / "periop.toml").write_text(f'data_dir = "data"\n{site}')
    out, err = io.StringIO(), io.StringIO()
    session = Session(out, err, {"SECRET": f"{CANARY}-secret"})
    code = main(["-v", "--config", str(tmp_path / "periop.toml"), "sync"], session)
    assert (code, "does not accept the credentials (401)" in err.getvalue()) == (6, True)
    held = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    text = out.getvalue() + err.getvalue() + held.decode(errors="replace")
    gets = [request for request in server.requests if request.method == "GET"]
    assert [request.path for request in gets if "authorization" not in request.headers] == ["/metadata"]
    sent = {request.headers["authorization"].split()[-1] for request in gets if request.path != "/metadata"}
    assert [secret for secret in secrets_of(server) | sent if secret in text] == []
    assert not any(CANARY in f"{request.path}{request.query}" for request in server.requests)
