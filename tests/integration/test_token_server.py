"""SMART Backend Services against a real token server (node-oidc-provider): it checks signature, audience, time and
`jti` of each statement, and its tokens are checked by signature at a FHIR server."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from connectors.auth.clients import ASSERTION_TYPE, RegisteredClient
from connectors.auth.keys import Algorithm, SigningKey, generate_key, public_jwks
from connectors.auth.smart import SmartAuth
from connectors.errors import AuthenticationError
from connectors.http.retry import TransferLimits
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.search.requests import SearchLimits
from connectors.sources.search.source import CohortQuery, SearchSource
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.smart_servers import TYPES, FakeClock, FhirServer, Http, cohort, served, smart

pytestmark = pytest.mark.oidc

BASE = "https://fhir.example.org"
KEYS: Mapping[Algorithm, SigningKey] = {"ES384": generate_key("ES384"), "RS384": generate_key("RS384")}
Start = Callable[..., Any]


def utc_now() -> datetime:
    return datetime.now(UTC)


def registered(key: SigningKey, client_id: str = "periop") -> dict[str, Any]:
    return {"client_id": client_id, "alg": key.algorithm, "jwks": public_jwks(key)}


def authenticator(server: Any, key: SigningKey, clock: FakeClock, **options: Any) -> SmartAuth:
    """Real time for what the server sees, the test's time for how long a token lasts."""
    now = options.pop("now", utc_now)
    # A server on this machine answers at once: a test that waits longer says so.
    options.setdefault("limits", TransferLimits(connect=10, read=30, attempts=2))
    return smart(BASE, clock, key, clock=clock.as_clock(now), token_url=server.token_endpoint, **options)


def token_of(auth: SmartAuth) -> str:
    return auth.headers()["Authorization"].removeprefix("Bearer ")


def checked(server: Any, token: str, audience: str) -> dict[str, Any]:
    """The claims of a token, by the key that the server publishes. Its end is for the clock of the test."""
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [each for each in httpx.get(f"{server.url}/jwks").json()["keys"] if each["kid"] == kid]
    options = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(token, jwt.PyJWK(key).key, ["RS256"], audience=audience, options=options)
    return claims


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_token_is_given_for_each_algorithm(token_server: Start, algorithm: Algorithm) -> None:
    server = token_server([registered(KEYS[algorithm])])
    auth = authenticator(server, KEYS[algorithm], FakeClock(), scopes=("system/*.rs",))
    claims = checked(server, token_of(auth), BASE)
    assert (claims["client_id"], claims["scope"]) == ("periop", "system/*.rs")
    assert server.event() == {"event": "token", "scope": "system/*.rs"}
    assert (auth.granted, auth.missing_scopes) == (("system/*.rs",), ())


def test_fault_06_a_statement_that_was_seen_is_refused_and_ours_never_is(token_server: Start) -> None:
    server = token_server([registered(KEYS["ES384"])])
    statement = RegisteredClient("periop", KEYS["ES384"]).assertion(server.token_endpoint, utc_now(), "one")
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": statement}
    answers = [httpx.post(server.token_endpoint, data=form | {"scope": "system/*.rs"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert [server.event()["event"] for _ in answers] == ["token", "refused"]
    clock = FakeClock()
    auth = authenticator(server, KEYS["ES384"], clock)
    tokens = set()
    for _ in range(5):
        tokens.add(token_of(auth))
        clock.pass_by(300)
    assert len(tokens) == 5
    assert {server.event()["event"] for _ in tokens} == {"token"}


@pytest.mark.parametrize("minutes", [-10, -6])
def test_a_clock_that_is_behind_is_told(token_server: Start, minutes: int) -> None:
    server = token_server([registered(KEYS["ES384"])])
    auth = authenticator(server, KEYS["ES384"], FakeClock(), now=lambda: utc_now() + timedelta(minutes=minutes))
    with pytest.raises(AuthenticationError, match=r"the clock of this machine is \d+ s behind the server's; set it"):
        auth.headers()
    assert server.event()["error"] == "invalid_client"


def test_a_key_or_a_client_that_is_not_registered_is_told(token_server: Start) -> None:
    server = token_server([registered(KEYS["ES384"])])
    other = generate_key("ES384")
    for auth in (
        authenticator(server, other, FakeClock()),
        authenticator(server, KEYS["ES384"], FakeClock(), client_id="who"),
    ):
        with pytest.raises(AuthenticationError, match=r"register the client_id of `auth` with the public key"):
            auth.headers()
        assert server.event()["error"] == "invalid_client"


def test_a_key_for_another_algorithm_is_told(token_server: Start) -> None:
    server = token_server([registered(KEYS["RS384"])])
    with pytest.raises(AuthenticationError, match=r"\(ES384\), which `periop keys show` prints"):
        authenticator(server, KEYS["ES384"], FakeClock()).headers()


def test_a_scope_that_is_dropped_in_silence_is_noticed(token_server: Start) -> None:
    server = token_server([registered(KEYS["ES384"])], scopes="system/Patient.rs system/Condition.rs")
    auth = authenticator(server, KEYS["ES384"], FakeClock())
    auth.headers()
    assert auth.granted == ("system/Patient.rs", "system/Condition.rs")
    assert auth.unreadable_types == TYPES[2:]
    assert auth.missing_scopes == tuple(f"system/{each}.rs" for each in TYPES[2:])


def test_scopes_of_the_first_version_are_enough(token_server: Start) -> None:
    server = token_server([registered(KEYS["ES384"])], scopes="system/*.read")
    auth = authenticator(server, KEYS["ES384"], FakeClock(), scopes=("system/*.read",))
    auth.headers()
    assert auth.missing_scopes == ()


# --- a sync behind it ---


class Tokens:
    """What the FHIR server thinks of tokens: signed for it by the token server, and not older than `ttl` seconds of
    the test's clock since it saw them first."""

    def __init__(self, clock: FakeClock, ttl: float) -> None:
        self.clock = clock
        self.ttl = ttl
        self.server: Any = None
        self.audience = ""
        self.seen: dict[str, float] = {}

    def accepted(self, token: str) -> bool:
        if token not in self.seen:
            try:
                checked(self.server, token, self.audience)
            except jwt.InvalidTokenError:
                return False
        return self.clock.seconds - self.seen.setdefault(token, self.clock.seconds) < self.ttl


@pytest.fixture
def fhir() -> Iterator[Callable[[FhirServer], Http]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(served(answer))


def sync(folder: Path, base: str, auth: SmartAuth, clock: FakeClock) -> SyncReport:
    query = CohortQuery("Condition", (("code", "http://snomed.info/sct|254637007"),))
    source = SearchSource(base, query, TYPES, auth, SearchLimits(page_size=2, streams=1), clock=clock.as_clock())
    return sync_site(source, Lake(folder / "lake"), "milan", Quarantine(folder / "quarantine"))


@pytest.mark.parametrize("ends_early", [False, True], ids=["before its end", "after a 401"])
def test_fault_05_tokens_of_two_seconds_are_renewed_in_mid_sync(
    token_server: Start, fhir: Callable[[FhirServer], Http], tmp_path: Path, ends_early: bool
) -> None:
    """A page takes 0.7 s and a token lasts 2: every few pages another one, found by discovery, and nothing lost.

    Where tokens end early, after 1.2 s, our clock does not tell, and the 401 does.
    """
    clock = FakeClock()
    tokens = Tokens(clock, 1.2 if ends_early else 2)
    server = FhirServer(cohort(6), tokens.accepted, clock=clock, page_seconds=0.7)
    http = fhir(server)
    tokens.audience = http.url
    tokens.server = token_server([registered(KEYS["ES384"])], fhir=http.url, ttl=2)
    server.token_endpoint = tokens.server.token_endpoint
    auth = smart(http.url, clock, KEYS["ES384"], clock=clock.as_clock(utc_now), scopes=("system/*.rs",))
    report = sync(tmp_path, http.url, auth, clock)
    assert (report.status, report.counts.stored) == ("ok", 18)
    assert len(tokens.seen) >= 4
    assert (server.refused > 0) == ends_early


def test_from_new_keys_to_a_sync(token_server: Start, fhir: Callable[[FhirServer], Http], tmp_path: Path) -> None:
    """As a hospital does it: `keys new`, the JWKS goes to the administrator, and the first sync gets a token."""

    def periop(*arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(tmp_path / "periop.toml"), *arguments], Session(out, err, {}))
        return code, out.getvalue(), err.getvalue()

    code, printed, _ = periop("keys", "new", "--out", str(tmp_path / "key.json"))
    assert code == 0
    tokens = Tokens(FakeClock(), 300)
    server = FhirServer(cohort(2), tokens.accepted)
    http = fhir(server)
    tokens.audience = http.url
    client = {"client_id": "periop", "alg": "ES384", "jwks": json.loads(printed)}
    tokens.server = token_server([client], fhir=http.url, scopes=" ".join(f"system/{each}.rs" for each in TYPES))
    server.token_endpoint = tokens.server.token_endpoint
    (tmp_path / "periop.toml").write_text(
        f'[[sites]]\nname = "milan"\nkind = "search"\nurl = "{http.url}"\n'
        f"types = {json.dumps(TYPES)}\n"
        'auth = { kind = "smart", client_id = "periop", key_file = "key.json" }\n'
    )
    code, printed, err = periop("sync", "--json")
    assert (code, err.count("Traceback")) == (0, 0), err
    (report,) = json.loads(printed)["sites"]
    assert (report["status"], report["counts"]["stored"]) == ("ok", 6)
