"""The faults of the network and of HTTP, by their numbers in the table of faults, against a server of raw bytes."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread

import httpx
import pytest

from connectors.errors import (
    AuthenticationError,
    DeferredError,
    ForeignOriginError,
    ProtocolError,
    RefusedError,
    SourceConfigError,
    SpoolError,
    TlsError,
    TooLargeError,
    UnavailableError,
)
from connectors.http.authenticators import BearerAuth
from connectors.http.client import FhirClient
from connectors.http.origin_policy import OriginPolicy, Resolve, address_kind, parse_address
from connectors.http.retry import Clock, TransferLimits
from connectors.sources.search.paging import parse_page
from tests.certificates import make_certificates
from tests.export_server import FakeClock
from tests.raw_server import RawServer, Request, Wire, chunked, http, ndjson
from tests.smart_servers import Reply, served

DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
PAGE = json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": []}).encode()
LINES = ndjson(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(50)))


def never(host: str, port: int) -> tuple[str, ...]:
    raise AssertionError("no name was to be looked up")


@contextmanager
def connect(
    server: RawServer, clock: Clock | None = None, resolve: Resolve = never, **limits: object
) -> Iterator[FhirClient]:
    allowed = limits.pop("allowed_origins", ())
    bounds = TransferLimits(**limits)  # type: ignore[arg-type]
    with FhirClient(
        server.base, BearerAuth("s3cret"), bounds, clock or FakeClock().as_clock(), None, True, allowed, resolve
    ) as client:
        yield client


def first_then(first: bytes | Wire, later: bytes) -> Callable[[Request], bytes | Wire]:
    """A server that fails once."""
    answers = iter([first])
    return lambda _: next(answers, later)


def page(server: RawServer, **limits: object) -> int:
    """The number of entries of a page that was read whole."""
    with connect(server, **limits) as client:
        return len(client.get_parsed(f"{server.base}/Patient", "Patient", parse_page).entries)


def saved(server: RawServer, folder: Path, **limits: object) -> bytes:
    """The content of a file that was downloaded whole."""
    with connect(server, **limits) as client:
        client.download(f"{server.base}/file", "file", folder / "file.ndjson")
    return (folder / "file.ndjson").read_bytes()


# --- 1, 3: connections that end in the middle ---

WHOLE = http(PAGE)


@pytest.mark.parametrize("cut", [1, 20, len(WHOLE) - len(PAGE) - 1, len(WHOLE) - len(PAGE), len(WHOLE) - 1])
def test_fault_1_reset_in_the_middle_of_a_page(cut: int) -> None:
    with RawServer(first_then(Wire(WHOLE[:cut], reset=True), WHOLE)) as server:
        assert page(server) == 0
        assert len(server.requests) == 2


def test_fault_1_reset_before_the_first_byte() -> None:
    with RawServer(first_then(Wire(b"", reset=True), WHOLE)) as server:
        assert page(server) == 0


FILE = http(LINES, headers={"Content-Type": "application/fhir+ndjson"})


@pytest.mark.parametrize("reset", [True, False])
def test_fault_3_a_download_that_fails_half_way_is_fetched_again_whole(tmp_path: Path, reset: bool) -> None:
    with RawServer(first_then(Wire(FILE[:-700], reset), FILE)) as server:
        assert saved(server, tmp_path) == LINES
    assert [path.name for path in tmp_path.iterdir()] == ["file.ndjson"]


def test_fault_3_a_download_that_never_ends_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file.ndjson").write_bytes(b"of yesterday")
    with RawServer(lambda _: FILE[:-700]) as server, pytest.raises(UnavailableError, match="in 3 attempts"):
        saved(server, tmp_path, attempts=3)
    assert [path.name for path in tmp_path.iterdir()] == ["file.ndjson"]
    assert (tmp_path / "file.ndjson").read_bytes() == b"of yesterday"


def test_fault_3_only_the_owner_may_read_a_file(tmp_path: Path) -> None:
    with RawServer(lambda _: FILE) as server:
        saved(server, tmp_path)
    assert (tmp_path / "file.ndjson").stat().st_mode & 0o777 == 0o600


def test_fault_24_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    with RawServer(lambda _: FILE) as server, pytest.raises(SpoolError, match="free disk space"):
        saved(server, tmp_path / "absent")
    assert len(server.requests) == 1


# --- 2: silent truncation ---

BIG_PAGE = json.dumps(
    {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"resource": {"resourceType": "Patient", "id": f"p{n}", "name": [{"text": f"{n * 7919:032x}"}]}}
            for n in range(146)
        ],
    }
).encode()
ZIPPED = {"Content-Encoding": "gzip"}
WIRES = {
    "length": http(BIG_PAGE),
    "no length": http(BIG_PAGE, length=False),
    "chunked": http(chunked(BIG_PAGE), headers={"Transfer-Encoding": "chunked"}),
    "gzip": http(gzip.compress(BIG_PAGE), headers=ZIPPED),
    "gzip without length": http(gzip.compress(BIG_PAGE), headers=ZIPPED, length=False),
    "gzip chunked": http(chunked(gzip.compress(BIG_PAGE), 500), headers={"Transfer-Encoding": "chunked"} | ZIPPED),
}


@pytest.mark.parametrize("kind", WIRES)
def test_fault_2_a_page_that_is_cut_at_any_byte_is_never_taken_for_whole(kind: str) -> None:
    assert 16_000 < len(BIG_PAGE) < 16_800
    whole = WIRES[kind]
    tried = range(len(whole))
    cuts = iter(tried)
    with (
        RawServer(lambda _: whole[: next(cuts, len(whole))], threads=False) as server,
        connect(server, attempts=1) as client,
    ):
        for _ in tried:
            with pytest.raises(UnavailableError):
                client.get_parsed(f"{server.base}/Patient", "Patient", parse_page)
        found = client.get_parsed(f"{server.base}/Patient", "Patient", parse_page)
        assert (len(found.entries), len(server.requests)) == (146, len(tried) + 1)


def test_fault_2_a_cut_gzip_stream_is_fetched_again(tmp_path: Path) -> None:
    zipped = gzip.compress(LINES)
    cut, whole = (http(body, headers=ZIPPED, length=False) for body in (zipped[:-3], zipped))
    with RawServer(first_then(cut, whole)) as server:
        assert saved(server, tmp_path) == LINES
        assert len(server.requests) == 2


def test_fault_2_a_corrupt_gzip_stream_is_fetched_again(tmp_path: Path) -> None:
    zipped = bytearray(gzip.compress(LINES))
    zipped[-6] ^= 1  # its CRC
    with RawServer(
        first_then(http(bytes(zipped), headers=ZIPPED), http(gzip.compress(LINES), headers=ZIPPED))
    ) as server:
        assert saved(server, tmp_path) == LINES
        assert len(server.requests) == 2


@pytest.mark.parametrize("headers", [ZIPPED, {"Content-Type": "application/gzip"}])
def test_a_gzip_file_is_read_however_the_server_calls_it(tmp_path: Path, headers: dict[str, str]) -> None:
    zipped = gzip.compress(LINES[:900]) + gzip.compress(LINES[900:]) + b"\0" * 7  # two members, and padding
    with RawServer(lambda _: http(zipped, headers=headers)) as server:
        assert saved(server, tmp_path) == LINES


def test_an_encoding_nobody_asked_for_is_refused() -> None:
    with (
        RawServer(lambda _: http(PAGE, headers={"Content-Encoding": "br"})) as server,
        pytest.raises(ProtocolError, match="compressed"),
    ):
        page(server)


# --- 4: Retry-After ---


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Mon, 01 Jan 2024 00:01:00 GMT", 60.0),  # one minute after the Date of the same answer
        ("1704067230", 30.0),  # an absolute epoch, 30 s after that Date
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.5),  # past: own backoff, half of 1 s when chance is 0
        ("-5", 0.5),
        ("soon", 0.5),
    ],
)
def test_fault_4_downloads_posts_and_deletes_wait_as_pages_do(
    tmp_path: Path, value: str, seconds: float, status: int
) -> None:
    busy = http(status=status, headers={"Retry-After": value, "Date": DATE})
    calls: list[Callable[[FhirClient, str], object]] = [
        lambda client, base: client.download(f"{base}/file", "file", tmp_path / "f"),
        lambda client, base: client.post(f"{base}/$export", "kick-off", b"{}"),
        lambda client, base: client.delete(f"{base}/job/1", "job"),
        lambda client, base: client.get(f"{base}/metadata", "metadata", (200,)),
    ]
    for call in calls:
        clock = FakeClock()
        with RawServer(first_then(busy, http(b"{}"))) as server, connect(server, clock.as_clock()) as client:
            call(client, server.base)
            assert (clock.slept, len(server.requests)) == ([seconds], 2)


@pytest.mark.parametrize(
    "value", ["30000", "Wed, 01 Jan 2097 00:00:00 GMT", "2300000000"]
)  # 8 h, 73 years, the epoch of 2042
def test_fault_4_a_wait_beyond_the_deadline_defers_the_site(tmp_path: Path, value: str) -> None:
    clock = FakeClock()
    busy = http(status=429, headers={"Retry-After": value, "Date": DATE})
    with RawServer(lambda _: busy) as server, connect(server, clock.as_clock(), run=21_600.0) as client:
        with pytest.raises(DeferredError, match="beyond the deadline"):
            client.download(f"{server.base}/file", "file", tmp_path / "f")
        assert (clock.slept, len(server.requests)) == ([], 1)


# --- 5: 401 in mid-sync ---


class Renewing:
    """An authenticator whose n-th renewal gives token n."""

    def __init__(self) -> None:
        self.number = 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.number}"}

    def renew(self) -> bool:
        self.number += 1
        return True


def test_fault_5_several_streams_renew_the_credentials_once(tmp_path: Path) -> None:
    together = Barrier(3)

    def answer(request: Request) -> bytes:
        if request.headers["authorization"] == "Bearer 0":
            together.wait(10)  # all three have been sent with the old token
            return http(status=401)
        return FILE if request.headers["authorization"] == "Bearer 1" else http(status=401)

    auth = Renewing()
    with RawServer(answer) as server, FhirClient(server.base, auth, clock=FakeClock().as_clock()) as client:
        threads = [
            Thread(target=client.download, args=(f"{server.base}/file", "file", tmp_path / f"{n}")) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert auth.number == 1
    assert [(tmp_path / f"{n}").read_bytes() for n in range(3)] == [LINES] * 3


def test_fault_5_a_second_401_stops_the_download(tmp_path: Path) -> None:
    with RawServer(lambda _: http(status=401)) as server, FhirClient(server.base, Renewing()) as client:
        with pytest.raises(AuthenticationError, match="401"):
            client.download(f"{server.base}/file", "file", tmp_path / "f")
        assert len(server.requests) == 2


# --- 7: bursts of 5xx, slow servers, hung connections ---


def test_fault_7_backoff_of_a_download_doubles_to_its_cap_and_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    with (
        RawServer(lambda _: http(status=502)) as server,
        connect(server, clock.as_clock(), attempts=5, backoff=2.0, backoff_cap=8.0) as client,
        pytest.raises(UnavailableError, match="status 502 in 5 attempts"),
    ):
        client.download(f"{server.base}/file", "file", tmp_path / "f")
    assert clock.slept == [1.0, 2.0, 4.0, 4.0]  # half of 2, 4, 8 and of 16 capped to 8


def test_fault_7_a_server_that_says_nothing_is_left_after_the_read_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never answers
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/fhir"
        limits = TransferLimits(attempts=2, read=0.05)
        with (
            FhirClient(base, BearerAuth("s3cret"), limits, FakeClock().as_clock()) as client,
            pytest.raises(UnavailableError, match="gave no answer in time in 2 attempts"),
        ):
            client.get_parsed(f"{base}/Patient", "Patient", parse_page)


def test_fault_7_a_download_that_trickles_ends_with_the_run(tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    clock = Clock(lambda: float(next(ticks)), sleep=lambda _: None, random=lambda: 0.0)
    pieces = [http(length=False), *(b"x" * 100_000 for _ in range(400))]
    with (
        RawServer(lambda _: Wire(iter(pieces))) as server,
        connect(server, clock, run=50.0) as client,
        pytest.raises(UnavailableError),
    ):
        client.download(f"{server.base}/file", "file", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


# --- 9, 10: where requests may go ---


@pytest.fixture
def elsewhere() -> Iterator[RawServer]:
    with RawServer(lambda _: FILE) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(lambda _: FILE) as server:
        yield server


def test_fault_9_a_file_on_another_origin_is_refused_unless_allowed(
    server: RawServer, elsewhere: RawServer, tmp_path: Path
) -> None:
    with connect(server) as client, pytest.raises(ForeignOriginError, match="allowed_origins"):
        client.download(f"{elsewhere.origin}/file", "file", tmp_path / "f")
    assert elsewhere.requests == []
    with connect(server, allowed_origins=(elsewhere.origin,)) as client:
        client.download(f"{elsewhere.origin}/file?signature=abc", "file", tmp_path / "f")
    (request,) = elsewhere.requests
    assert b"s3cret" not in request.raw
    assert "authorization" not in request.headers
    assert (request.headers["host"], request.query) == (f"127.0.0.1:{elsewhere.port}", {"signature": ["abc"]})


def test_fault_9_an_allowed_origin_is_for_files_only(server: RawServer, elsewhere: RawServer) -> None:
    with connect(server, allowed_origins=(elsewhere.origin,)) as client:
        for call in (
            lambda url: client.get_parsed(url, "page", bytes),
            lambda url: client.get(url, "page", (200,)),
            lambda url: client.post(url, "page", b""),
            lambda url: client.delete(url, "page"),
        ):
            with pytest.raises(ForeignOriginError):
                call(f"{elsewhere.origin}/fhir")
    assert elsewhere.requests == []


def test_fault_9_no_credentials_where_the_manifest_says_none(server: RawServer, tmp_path: Path) -> None:
    with connect(server) as client:
        client.download(f"{server.base}/file", "file", tmp_path / "f", credentials=False)
        client.download(f"{server.base}/file", "file", tmp_path / "f")
    assert [request.headers.get("authorization") for request in server.requests] == [None, "Bearer s3cret"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fault_9_no_redirect_is_followed(elsewhere: RawServer, tmp_path: Path, status: int) -> None:
    location = {"Location": f"{elsewhere.origin}/file"}
    with RawServer(lambda _: http(status=status, headers=location)) as server, connect(server) as client:
        for call in (
            lambda: client.download(f"{server.base}/file", "file", tmp_path / "f"),
            lambda: client.post(f"{server.base}/$export", "kick-off", b"{}"),
            lambda: client.delete(f"{server.base}/job", "job"),
        ):
            with pytest.raises(ForeignOriginError, match="redirects"):
                call()
    assert elsewhere.requests == []


def test_fault_9_proxies_of_the_environment_are_ignored(
    server: RawServer, elsewhere: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", elsewhere.origin)
    monkeypatch.setenv("ALL_PROXY", elsewhere.origin)
    monkeypatch.setenv("NO_PROXY", "")
    assert saved(server, tmp_path) == LINES
    assert elsewhere.requests == []


def test_fault_9_no_client_certificate_goes_to_an_allowed_origin(tmp_path: Path) -> None:
    """The name of the other server is looked up once and checked; its certificate must still be of that name."""
    certificates = make_certificates(tmp_path)
    own = ssl.create_default_context(cafile=certificates.ca)
    own.load_cert_chain(certificates.client_cert, certificates.client_key)
    elsewhere = ssl.create_default_context(cafile=certificates.ca)

    def answer(_: object) -> Reply:
        return Reply(LINES)

    with (
        served(answer, certificates.server(ssl.CERT_REQUIRED)) as site,
        served(answer, certificates.server(ssl.CERT_OPTIONAL)) as files,
        FhirClient(
            site.url, BearerAuth("s3cret"), clock=FakeClock().as_clock(), verify=own, allowed_origins=(files.url,),
            resolve=lambda host, _: ("127.0.0.1",), verify_other_origins=elsewhere,
        ) as client,
    ):  # fmt: skip
        client.download(f"{site.url}/f", "file", tmp_path / "f")
        client.download(f"{files.url}/f", "file", tmp_path / "g")
        assert [request.certificate for request in (*site.requests, *files.requests)] == [True, False]
        assert files.requests[0].headers["host"] == f"localhost:{files.port}"
    assert (tmp_path / "g").read_bytes() == LINES


BAD_LINKS = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "//127.0.0.1/x",
    "http://[::1",
    "https://127.0.0.1/x",
    "http://user:pass@127.0.0.1:{port}/fhir/file",
    "http://169.254.169.254/latest/meta-data",
    "javascript:alert(1)",
    "",
]


@pytest.mark.parametrize("link", BAD_LINKS)
def test_fault_10_links_that_lead_nowhere_good(server: RawServer, tmp_path: Path, link: str) -> None:
    with connect(server) as client, pytest.raises(ForeignOriginError):
        client.download(link.format(port=server.port), "file", tmp_path / "f")
    assert server.requests == []


SITE = "https://fhir.hospital.example/r4"
FILES = "https://files.example:8443"


def resolve_host(site: str, *files: str) -> Resolve:
    return lambda host, _: (site,) if host == "fhir.hospital.example" else files


PUBLIC, INTRANET = "93.184.216.34", "10.1.2.3"


@pytest.mark.parametrize(
    ("site", "addresses", "refused"),
    [
        (PUBLIC, (PUBLIC,), None),
        (PUBLIC, ("127.0.0.1",), "loopback"),
        (PUBLIC, ("::1",), "loopback"),
        (PUBLIC, ("::ffff:127.0.0.1",), "loopback"),
        (PUBLIC, ("10.0.0.5",), "private"),
        (PUBLIC, ("192.168.1.1",), "private"),
        (PUBLIC, ("fd00::1",), "private"),
        (PUBLIC, ("100.64.0.1",), "private"),
        (PUBLIC, ("169.254.169.254",), "reserved"),
        (PUBLIC, ("fe80::1%eth0",), "reserved"),
        (PUBLIC, ("0.0.0.0",), "reserved"),
        (PUBLIC, ("224.0.0.1",), "reserved"),
        (PUBLIC, (PUBLIC, "127.0.0.1"), "loopback"),  # one of several is enough
        (INTRANET, ("10.0.0.5",), None),  # a server of the intranet may keep its files there
        (INTRANET, ("127.0.0.1",), "loopback"),
        (INTRANET, ("169.254.169.254",), "reserved"),
        ("169.254.1.1", ("169.254.169.254",), "reserved"),
    ],
)
def test_fault_10_private_and_link_local_targets_after_the_name_is_looked_up(
    site: str, addresses: tuple[str, ...], refused: str | None
) -> None:
    targets = OriginPolicy(SITE, (FILES,), resolve_host(site, *addresses))
    if refused:
        with pytest.raises(ForeignOriginError, match=f"{refused} address"):
            targets.check(f"{FILES}/a?b=c", "file")
        return
    target = targets.check(f"{FILES}/a?b=c", "file")
    assert target.url == f"https://{addresses[0]}:8443/a?b=c"  # the address that was checked, not looked up again
    assert (target.own_origin, target.headers, target.extensions) == (
        False,
        {"Host": "files.example:8443"},
        {"sni_hostname": "files.example"},
    )


def test_fault_10_the_configured_site_itself_may_be_anywhere() -> None:
    targets = OriginPolicy("http://10.0.0.1:8080/fhir", (), never)
    assert targets.check("http://10.0.0.1:8080/fhir/Patient", "page").own_origin


def test_fault_10_http_after_https_is_another_origin() -> None:
    targets = OriginPolicy(SITE, (), never)
    with pytest.raises(ForeignOriginError):
        targets.check("http://fhir.hospital.example/r4/Patient", "page")


def test_fault_10_a_name_without_address_and_an_entry_that_is_no_origin() -> None:
    def nowhere(host: str, port: int) -> tuple[str, ...]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(UnavailableError, match="no address"):
        OriginPolicy(SITE, (FILES,), nowhere).check(f"{FILES}/a", "file")
    with pytest.raises(SourceConfigError, match="allowed_origins"):
        OriginPolicy(SITE, ("s3://bucket",))


def test_kinds_of_addresses() -> None:
    found = {
        text: address_kind(parse_address(text)) for text in ("2606:4700::1", "127.8.8.8", "172.16.0.1", "240.0.0.1")
    }
    assert found == {
        "2606:4700::1": "public",
        "127.8.8.8": "loopback",
        "172.16.0.1": "private",
        "240.0.0.1": "reserved",
    }


# --- TLS: told at once ---


class Failing(httpx.BaseTransport):
    """A transport on which every connection fails in the same way."""

    def __init__(self, cause: ssl.SSLError) -> None:
        self._cause = cause
        self.tried = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.tried += 1
        raise httpx.ConnectError("tls") from self._cause


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] (_ssl.c:1000)")
    error.reason = reason
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (untrusted(), r"not trusted \(self-signed certificate\): set `ca_file` to the certificate of the authority"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "client_cert_file"),
        (tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), "client_cert_file"),
        (tls("WRONG_VERSION_NUMBER"), "does not speak TLS"),
        (tls("UNSUPPORTED_PROTOCOL"), "compare the TLS settings"),
    ],
)
def test_a_failure_of_tls_is_told_at_once(cause: ssl.SSLError, said: str) -> None:
    http_transport = Failing(cause)
    with (
        FhirClient(
            "https://127.0.0.1/fhir", BearerAuth("s3cret"), clock=FakeClock().as_clock(), http_transport=http_transport
        ) as client,
        pytest.raises(TlsError, match=said),
    ):
        client.get_parsed("https://127.0.0.1/fhir/Patient", "Patient", parse_page)
    assert http_transport.tried == 1


def test_an_end_within_tls_may_pass() -> None:
    http_transport = Failing(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    with (
        FhirClient(
            "https://127.0.0.1/fhir", BearerAuth("s3cret"), clock=FakeClock().as_clock(), http_transport=http_transport
        ) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_parsed("https://127.0.0.1/fhir/Patient", "Patient", parse_page)
    assert http_transport.tried == 6


def test_plain_http_where_tls_is_expected() -> None:
    def answer_in_plain(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(http(status=400))

    clock = FakeClock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=answer_in_plain, args=(listener,))
        thread.start()
        base = f"https://127.0.0.1:{listener.getsockname()[1]}/fhir"
        with (
            FhirClient(base, BearerAuth("s3cret"), clock=clock.as_clock()) as client,
            pytest.raises(TlsError, match="does not speak TLS"),
        ):
            client.get_parsed(f"{base}/Patient", "Patient", parse_page)
        thread.join()
    assert clock.slept == []


# --- 18: bombs ---


def test_fault_18_a_gzip_bomb_is_left_in_bounded_memory(tmp_path: Path) -> None:
    """300 KB that swell to 300 MB."""
    bomb = gzip.compress(bytes(300 << 20), 9)
    assert 250_000 < len(bomb) < 350_000
    with RawServer(lambda _: http(bomb, headers=ZIPPED)) as server, connect(server) as client:
        for call in (
            lambda: client.get_parsed(f"{server.base}/Patient", "Patient", parse_page),
            lambda: client.download(f"{server.base}/file", "file", tmp_path / "f"),
        ):
            tracemalloc.start()
            with pytest.raises(TooLargeError, match="gzip bomb"):
                call()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 40 << 20  # 16 MiB are let pass before the ratio counts, and are joined once
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 2  # a bomb is not fetched again


def test_fault_18_a_page_and_a_file_over_their_limits(tmp_path: Path) -> None:
    with RawServer(lambda _: http(b" " * 5000)) as server:
        with pytest.raises(TooLargeError, match="over the limit of 4999 bytes"):
            page(server, response=4999)
        with pytest.raises(TooLargeError, match="over the limit of 4999 bytes"):
            saved(server, tmp_path, file=4999)
    assert list(tmp_path.iterdir()) == []


# --- what else answers say ---


def test_statuses_that_were_not_asked_for() -> None:
    with RawServer(lambda _: http(status=404)) as server, connect(server) as client:
        assert client.delete(f"{server.base}/job", "job").status == 404  # it is gone, which was the wish
        with pytest.raises(RefusedError) as caught:
            client.get(f"{server.base}/job", "job", (200, 202))
        assert caught.value.status == 404


def test_a_login_page_instead_of_a_file(tmp_path: Path) -> None:
    login = http(b"<!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": "application/fhir+ndjson"})
    with RawServer(lambda _: login) as server, pytest.raises(AuthenticationError, match="web page"):
        saved(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_post_carries_its_body_and_type() -> None:
    with RawServer(lambda _: http(status=202)) as server, connect(server) as client:
        assert client.post(f"{server.base}/$export", "kick-off", b'{"a":1}').status == 202
        (request,) = server.requests
        assert (request.method, request.body, request.headers["content-type"]) == (
            "POST",
            b'{"a":1}',
            "application/fhir+json",
        )
