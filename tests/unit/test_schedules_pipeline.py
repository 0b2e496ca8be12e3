"""How a site of `periop.toml` becomes a source: whom it trusts, and that its waiting is told."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import certifi
import pytest

from connectors.search import SearchSource
from schedules.errors import ConfigError
from schedules.pipeline import Pipeline
from schedules.settings import SearchSite, Settings


def source(ca_file: Path | None = None) -> SearchSource:
    site = SearchSite.model_validate({"name": "milan", "kind": "search", "url": "https://h/fhir", "ca_file": ca_file})
    found = Pipeline({})._search(Settings(sites=(site,)), site)
    assert isinstance(found, SearchSource)
    return found


def test_a_site_trusts_the_public_authorities_or_those_of_its_file(tmp_path: Path) -> None:
    assert source().verify is True
    context = source(Path(certifi.where())).verify
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats()["x509_ca"] > 50
    with pytest.raises(ConfigError, match=r"nowhere\.pem: the ca_file of site milan cannot be read"):
        source(tmp_path / "nowhere.pem")


def test_a_wait_for_a_server_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source().timing.sleep(0.0)
    assert caplog.messages == ["milan gave no usable answer; trying again in 0 s"]
