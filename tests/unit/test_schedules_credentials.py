"""Secrets by name, and the key of the pseudonyms: made once, private, never replaced in silence."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from schedules.credentials import KEY_FILE, PSEUDONYM_KEY, authorization, pseudonym_key, secret
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
