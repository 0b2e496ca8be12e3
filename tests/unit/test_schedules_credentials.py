"""Secrets by name, and the key of the pseudonyms: made once, private, never replaced in silence."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

import certifi
import pytest

from schedules.credentials import (
    KEY_FILE,
    PSEUDONYM_KEY,
    authorization,
    private_folder,
    pseudonym_key,
    secret,
    trusted,
)
from schedules.errors import ConfigError
from schedules.settings import SearchSite, Settings

posix_only = pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")


def settings(data_dir: Path) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, "sites": [{"name": "a", "kind": "folder", "path": "in"}]})


def site(auth: dict[str, str]) -> SearchSite:
    content = {"name": "a", "kind": "search", "url": "https://h/fhir", "auth": auth}
    return SearchSite.model_validate(content)


def test_a_site_asks_for_what_its_kind_needs(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p w\n")
    basic = site({"kind": "basic", "username": "u", "password_file": str(file)})
    assert authorization(site({"kind": "none"}), {}) is None
    assert authorization(site({"kind": "bearer", "token_env": "T"}), {"T": "abc"}) == "abc"
    assert authorization(basic, {}) == ("u", "p w")


@pytest.mark.parametrize("value", [None, "", "two\nlines", "tab\t"])
def test_a_secret_that_is_none_is_named_and_not_shown(value: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        secret("TOKEN", None, {} if value is None else {"TOKEN": value})
    assert "environment variable TOKEN" in str(caught.value)
    assert "lines" not in str(caught.value)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        secret(None, tmp_path / "nowhere", {})


def test_the_key_is_made_once(tmp_path: Path) -> None:
    first = pseudonym_key(settings(tmp_path / "data"), {})
    assert len(first) == 32
    assert pseudonym_key(settings(tmp_path / "data"), {}) == first
    assert pseudonym_key(settings(tmp_path / "other"), {}) != first
    assert [file.name for file in (tmp_path / "data").iterdir()] == [KEY_FILE]


@posix_only
def test_the_folder_made_for_the_key_is_private_and_one_that_is_there_is_left(tmp_path: Path) -> None:
    pseudonym_key(settings(tmp_path / "above" / "data"), {})
    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o700
    (tmp_path / "above" / "data").chmod(0o755)
    private_folder(tmp_path / "above" / "data")
    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o755


@posix_only
def test_the_key_file_is_private(tmp_path: Path) -> None:
    pseudonym_key(settings(tmp_path), {})
    file = tmp_path / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        pseudonym_key(settings(tmp_path), {})


def test_the_environment_comes_first(tmp_path: Path) -> None:
    assert pseudonym_key(settings(tmp_path), {PSEUDONYM_KEY: "ab" * 32}) == b"\xab" * 32
    assert not (tmp_path / KEY_FILE).exists()


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31])
def test_a_malformed_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="not a key of 64 or more hex digits"):
        pseudonym_key(settings(tmp_path), {PSEUDONYM_KEY: text})


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    (tmp_path / "views").mkdir()
    with pytest.raises(ConfigError, match="restore it from a backup, or delete views and cohort"):
        pseudonym_key(settings(tmp_path), {})
    assert not (tmp_path / KEY_FILE).exists()


def search_site(ca_file: Path | None) -> SearchSite:
    content = {"name": "milan", "kind": "search", "url": "https://h/fhir", "ca_file": ca_file}
    return SearchSite.model_validate(content)


def first_certificates(count: int) -> str:
    """The first `count` public authorities of the `certifi` list, as PEM."""
    end = "-----END CERTIFICATE-----\n"
    return end.join([*Path(certifi.where()).read_text().split(end)[:count], ""])


def test_only_the_authorities_of_the_file_are_trusted(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(first_certificates(2))
    context = trusted(search_site(file))
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats() == {"x509": 2, "crl": 0, "x509_ca": 2}
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert trusted(search_site(None)) is True


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x03", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_a_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem: the ca_file of site milan holds no certificate in PEM form"):
        trusted(search_site(file))


@pytest.mark.parametrize("name", ["nowhere.pem", "."])
def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the ca_file of site milan"):
        trusted(search_site(tmp_path / name))
