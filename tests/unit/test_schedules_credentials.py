"""Secrets by name, and the key of the pseudonyms: made once, private, never replaced in silence."""

from __future__ import annotations

import json
import os
import ssl
import stat
from pathlib import Path

import certifi
import pytest

from connectors.auth.keys import private_jwk
from schedules.config.credentials import (
    KEY_FILE,
    PSEUDONYM_KEY,
    client_ssl_context,
    private_folder,
    pseudonym_key,
    secret,
    signing_key,
    trust_only_ssl_context,
)
from schedules.config.settings import Settings
from schedules.config.site_settings import SearchSite
from schedules.errors import ConfigError
from tests.certificates import Certificates, make_certificates
from tests.smart_servers import KEY

posix_only = pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(data_dir: Path) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, "sites": [{"name": "a", "kind": "folder", "path": "in"}]})


def test_a_secret_is_the_line_of_a_variable_or_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p w\n")
    file.chmod(0o600)
    assert secret(None, file, {}) == "p w"
    assert secret("T", None, {"T": "abc"}) == "abc"


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
def test_the_folder_made_for_the_key_is_private_and_one_that_is_there_is_made_so(tmp_path: Path) -> None:
    pseudonym_key(settings(tmp_path / "above" / "data"), {})
    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o700
    (tmp_path / "above" / "data").chmod(0o755)
    private_folder(tmp_path / "above" / "data")
    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o700


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
    context = trust_only_ssl_context(search_site(file))
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats() == {"x509": 2, "crl": 0, "x509_ca": 2}
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert trust_only_ssl_context(search_site(None)) is True


@pytest.mark.parametrize("content", [b"", b"\x30\x82\x03", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_a_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem: the ca_file of site milan holds no certificate in PEM form"):
        trust_only_ssl_context(search_site(file))


@pytest.mark.parametrize("name", ["nowhere.pem", "."])
def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the ca_file of site milan"):
        trust_only_ssl_context(search_site(tmp_path / name))


# --- private keys ---


def key_file(folder: Path, mode: int = 0o600) -> Path:
    file = folder / "key.json"
    file.write_text(json.dumps(private_jwk(KEY)))
    file.chmod(mode)
    return file


@posix_only
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_private_key_is_read(tmp_path: Path, mode: int) -> None:
    assert signing_key(key_file(tmp_path, mode)).kid == KEY.kid


@posix_only
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601])
def test_a_private_key_that_everybody_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(
        ConfigError, match=r"key\.json: every user of this machine can read the private key; run `chmod"
    ):
        signing_key(key_file(tmp_path, mode))


def test_a_key_that_is_none_is_named(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"key\.json: the JWK is not a complete EC or RSA key: make a key with"):
        signing_key(file)
    with pytest.raises(ConfigError, match="nowhere: the private key cannot be read"):
        signing_key(tmp_path / "nowhere")


# --- client certificates ---


def client_site(files: Certificates, **changes: object) -> SearchSite:
    certificates = {"client_cert_file": files.client_cert, "client_key_file": files.client_key}
    content = {"name": "milan", "kind": "search", "url": "https://h/fhir", "ca_file": files.ca}
    return SearchSite.model_validate({**content, **certificates, **changes})


def test_a_client_certificate_is_loaded_with_its_key(certificates: Certificates) -> None:
    assert isinstance(client_ssl_context(client_site(certificates), {}), ssl.SSLContext)
    assert isinstance(client_ssl_context(client_site(certificates, ca_file=None), {}), ssl.SSLContext)
    both = client_site(certificates, client_cert_file=certificates.client_both, client_key_file=None)
    assert isinstance(client_ssl_context(both, {}), ssl.SSLContext)
    assert client_ssl_context(search_site(None), {}) is True


def test_the_key_of_a_client_certificate_may_have_a_password(certificates: Certificates, tmp_path: Path) -> None:
    locked = client_site(certificates, client_key_file=certificates.locked_key, client_key_password_env="P")
    assert isinstance(client_ssl_context(locked, {"P": certificates.password}), ssl.SSLContext)
    file = tmp_path / "password"
    file.write_text(certificates.password)
    file.chmod(0o600)
    by_file = {"client_key_password_env": None, "client_key_password_file": file}
    assert isinstance(client_ssl_context(locked.model_copy(update=by_file), {}), ssl.SSLContext)


@pytest.mark.parametrize("password", ["wrong", "x" * 2000])
def test_a_wrong_password_is_a_sentence_without_it(certificates: Certificates, password: str) -> None:
    locked = client_site(certificates, client_key_file=certificates.locked_key, client_key_password_env="P")
    with pytest.raises(ConfigError, match="the client certificate of site milan cannot be used") as caught:
        client_ssl_context(locked, {"P": password})
    assert password not in str(caught.value)


def test_a_password_that_is_missing_is_not_asked_for_on_the_terminal(certificates: Certificates) -> None:
    locked = client_site(certificates, client_key_file=certificates.locked_key)
    with pytest.raises(ConfigError, match="check that certificate, key and password belong together"):
        client_ssl_context(locked, {})


def test_a_key_of_another_certificate_is_named(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match="check that certificate, key and password belong together"):
        client_ssl_context(client_site(certificates, client_key_file=certificates.server_key), {})
    with pytest.raises(ConfigError, match="cannot be used"):
        client_ssl_context(client_site(certificates, client_cert_file=certificates.client_key), {})
    with pytest.raises(ConfigError, match="nowhere: the private key of the client certificate cannot be read"):
        client_ssl_context(client_site(certificates, client_key_file=certificates.ca.with_name("nowhere")), {})


@posix_only
def test_a_client_key_that_everybody_may_read_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "client.key"
    file.write_bytes(certificates.client_key.read_bytes())
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"client\.key: every user of this machine can read the private key of the"):
        client_ssl_context(client_site(certificates, client_key_file=file), {})
