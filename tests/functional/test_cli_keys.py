"""`periop keys` as an administrator uses it: one private file, one JWKS to hand on, nothing replaced by mistake."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.auth.keys import Algorithm, generate_key, public_jwks, read_key
from schedules.cli.main import main
from schedules.cli.session import Session

PRIVATE = {"d", "p", "q", "dp", "dq", "qi"}
posix_only = pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")


def periop(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main([str(argument) for argument in arguments], Session(out, err, {}))
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_the_public_half_is_printed_and_the_private_one_is_kept(tmp_path: Path, algorithm: Algorithm) -> None:
    file = tmp_path / "key.json"
    code, printed, said = periop("keys", "new", "--alg", algorithm, "--out", file)
    (public,) = json.loads(printed)["keys"]
    assert (code, public["alg"]) == (0, algorithm)
    assert not PRIVATE & set(public)
    key = read_key(file.read_bytes())
    assert public_jwks(key) == json.loads(printed)
    private = json.loads(file.read_text())
    assert private["d"] not in printed + said
    assert str(file) in said
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]


@posix_only
def test_the_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    before = os.umask(0)
    try:
        periop("keys", "new", "--out", file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        periop("keys", "new", "--out", file, "--force")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_is_not_replaced_by_mistake(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    periop("keys", "new", "--out", file)
    first = file.read_bytes()
    code, printed, said = periop("keys", "new", "--out", file)
    assert (code, printed) == (2, "")
    assert "already exists; name another file with --out, or overwrite it with --force" in said
    assert file.read_bytes() == first
    assert periop("keys", "new", "--out", file, "--force")[0] == 0
    assert read_key(file.read_bytes()).kid != read_key(first).kid


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, printed, said = periop("keys", "new", "--out", tmp_path / "nowhere" / "key.json")
    assert (code, printed) == (2, "")
    assert "nowhere: no such folder; make it first" in said


def test_a_key_is_shown_again(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    _, printed, _ = periop("keys", "new", "--out", file)
    assert periop("keys", "show", file) == (0, printed, "")


def test_a_key_of_ones_own_is_shown(tmp_path: Path) -> None:
    key, file = generate_key("RS384"), tmp_path / "key.pem"
    file.write_bytes(key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    code, printed, _ = periop("keys", "show", file)
    assert (code, json.loads(printed)) == (0, public_jwks(key))


def test_a_file_that_holds_no_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}')
    file.chmod(0o600)
    code, printed, said = periop("keys", "show", file)
    assert (code, printed) == (2, "")
    assert "key.json: the JWK is not a complete EC or RSA key: make a key with `periop keys new`" in said
    assert "c2VjcmV0" not in said
