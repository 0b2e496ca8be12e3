"""How a site of `periop.toml` becomes a source: whom it trusts, and that its waiting is told."""

from __future__ import annotations

import json
import logging
import ssl
from pathlib import Path

import certifi
import pytest

from connectors.auth.keys import private_jwk
from connectors.auth.smart import SmartAuth
from connectors.http.authenticators import Authenticator, BasicAuth, BearerAuth, NoAuth
from connectors.sources.search.source import SearchSource
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.errors import ConfigError
from schedules.run.sources import TYPES, authenticator, search_source
from tests.smart_servers import KEY


def source(ca_file: Path | None = None) -> SearchSource:
    site = SearchSite.model_validate({"name": "milan", "kind": "search", "url": "https://h/fhir", "ca_file": ca_file})
    return search_source(Settings(sites=(site,)), site, {})


def test_a_site_trusts_the_public_authorities_or_those_of_its_file(tmp_path: Path) -> None:
    assert source().verify is True
    context = source(Path(certifi.where())).verify
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats()["x509_ca"] > 50
    with pytest.raises(ConfigError, match=r"nowhere\.pem: the ca_file of site milan cannot be read"):
        source(tmp_path / "nowhere.pem")


def test_a_site_is_asked_for_its_types_and_all_are_tried_where_it_names_none() -> None:
    assert (source().types, source().tolerant) == (TYPES, True)
    given = {"name": "milan", "kind": "search", "url": "https://h/fhir"}
    site = SearchSite.model_validate({**given, "types": ["Observation", "Condition", "Patient"]})
    found = search_source(Settings(sites=(site,)), site, {})
    assert (found.types, found.tolerant) == (("Patient", "Condition", "Observation"), False)


def test_smart_asks_for_the_types_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(private_jwk(KEY)))
    file.chmod(0o600)
    given = {"kind": "smart", "client_id": "periop", "key_file": str(file)}
    for more, scopes in (({}, ("system/Patient.rs",)), ({"scope": "system/*.read"}, ("system/*.read",))):
        auth = credentials({**given, **more}, {})
        assert isinstance(auth, SmartAuth)
        auth.narrow(("Patient",))
        assert (auth.scopes, auth.types) == (scopes, ("Patient",))


def test_a_wait_for_a_server_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source().clock.sleep(0.0)
    assert caplog.messages == ["milan: no usable response; trying again in 0 s"]


# --- credentials ---


def credentials(auth: dict[str, str], environ: dict[str, str]) -> Authenticator:
    site = SearchSite.model_validate({"name": "milan", "kind": "search", "url": "https://h/fhir", "auth": auth})
    return authenticator(Settings(sites=(site,)), site, environ)


def test_a_site_asks_for_what_its_kind_of_auth_needs(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p w\n")
    file.chmod(0o600)
    basic = {"kind": "basic", "username": "u", "password_file": str(file)}
    assert credentials({"kind": "none"}, {}) == NoAuth()
    assert credentials({"kind": "bearer", "token_env": "T"}, {"T": "abc"}) == BearerAuth("abc")
    assert credentials(basic, {}) == BasicAuth("u", "p w")
    with pytest.raises(ConfigError, match="environment variable T"):
        credentials({"kind": "bearer", "token_env": "T"}, {})


def test_smart_asks_for_all_types_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(private_jwk(KEY)))
    file.chmod(0o600)
    given = {"kind": "smart", "client_id": "periop", "key_file": str(file)}
    auth = credentials(given, {})
    assert isinstance(auth, SmartAuth)
    assert auth.client.key.kid == KEY.kid
    assert (auth.base, auth.token_url) == ("https://h/fhir", None)
    assert auth.scopes == tuple(f"system/{each}.rs" for each in TYPES)
    told = credentials({**given, "scope": "system/*.read", "token_url": "https://sso/token"}, {})
    assert isinstance(told, SmartAuth)
    assert (told.scopes, told.token_url) == (("system/*.read",), "https://sso/token")
