"""Which URLs are a FHIR server, and which links stay on it."""

from __future__ import annotations

import pytest

from connectors.errors import ForeignOriginError, SourceConfigError
from connectors.http.origin import base_of_self_link, check_base_url, origin, rebase_link, redact_url

BASE = "https://fhir.example/r4"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("fhir.example/r4", "not http or https"),
        ("ftp://fhir.example", "not http or https"),
        ("https:///r4", "not http or https"),
        ("https://alice:s3cret@fhir.example", "user name or password"),
        ("https://fhir.example/r4?x=1", "a query"),
        ("https://fhir.example:port/", "not a URL"),
        ("https://[::1", "not a URL"),
    ],
)
def test_urls_that_are_no_base(url: str, problem: str) -> None:
    with pytest.raises(SourceConfigError, match=problem) as caught:
        check_base_url(url)
    assert "s3cret" not in str(caught.value)


def test_a_base_loses_its_last_slash() -> None:
    assert check_base_url("https://fhir.example:8443/r4/") == "https://fhir.example:8443/r4"


def test_origins() -> None:
    assert origin("https://FHIR.example/x") == origin("https://fhir.example:443/y") == ("https", "fhir.example", 443)
    assert origin("http://fhir.example/x") != origin("https://fhir.example/x")
    assert redact_url("https://fhir.example/Patient?name=x") == "https://fhir.example:443"


@pytest.mark.parametrize(
    ("link", "own_base", "result"),
    [
        ("https://fhir.example/r4?page=2", None, "https://fhir.example/r4?page=2"),
        ("https://fhir.example:443/other?page=2", None, "https://fhir.example:443/other?page=2"),
        ("?page=2", None, "https://fhir.example/r4/Condition?page=2"),
        ("http://inner:8080/app?page=2", "http://inner:8080/app", "https://fhir.example/r4?page=2"),
        (
            "http://inner:8080/app/Condition?p=2",
            "http://inner:8080/app",
            "https://fhir.example/r4/Condition?p=2",
        ),
        ("http://inner:8080/application?page=2", "http://inner:8080/app", None),
        ("http://inner:8080/app?page=2", None, None),
        ("http://evil.example/app?page=2", "http://inner:8080/app", None),
        ("http://fhir.example/r4?page=2", None, None),  # the same host without TLS
        ("https://fhir.example@evil.example/r4", None, None),
        ("https://u:p@fhir.example/r4", None, None),
        ("//evil.example/r4", None, None),
        ("file:///etc/passwd", None, None),
    ],
)
def test_where_a_next_link_leads(link: str, own_base: str | None, result: str | None) -> None:
    if result is None:
        with pytest.raises(ForeignOriginError):
            rebase_link(link, BASE + "/Condition?x=1", BASE, own_base)
    else:
        assert rebase_link(link, BASE + "/Condition?x=1", BASE, own_base) == result


def test_how_a_server_calls_itself() -> None:
    assert base_of_self_link("http://inner/app/Condition?code=x/Condition", "Condition") == "http://inner/app"
    assert base_of_self_link("http://inner/app?_getpages=1", "Condition") is None
    assert base_of_self_link(None, "Condition") is None
