"""Key pairs: read as JWK and as PEM, named by their thumbprint, never shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from connectors.auth.keys import Algorithm, generate_key, private_jwk, public_jwks, read_key, thumbprint
from connectors.errors import SourceConfigError

# RFC 7638, 3.1
EXAMPLE = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
        "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awa"
        "pJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}


def test_the_thumbprint_is_that_of_the_standard() -> None:
    assert thumbprint(EXAMPLE) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def pem(key: Any, encryption: KeySerializationEncryption = NoEncryption()) -> bytes:  # noqa: B008
    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return content


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_key_is_the_same_from_each_kind_of_file(algorithm: Algorithm) -> None:
    key = generate_key(algorithm)
    jwk = private_jwk(key)
    files = [json.dumps(jwk), json.dumps({"keys": [jwk]}), pem(key.key).decode()]
    for content in files:
        read = read_key(content.encode())
        assert (read.algorithm, read.kid) == (algorithm, key.kid)
        assert read.key.private_numbers() == key.key.private_numbers()
    assert key.kid == thumbprint(jwk)


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_the_public_half_verifies_and_holds_nothing_private(algorithm: Algorithm) -> None:
    key = generate_key(algorithm)
    (public,) = public_jwks(key)["keys"]
    private = {"d", "p", "q", "dp", "dq", "qi"}
    assert private & set(private_jwk(key))
    assert not private & set(public)
    assert (public["kid"], public["alg"], public["use"]) == (key.kid, algorithm, "sig")
    token = jwt.encode({"a": 1}, key.key, algorithm=algorithm)
    assert jwt.decode(token, jwt.PyJWK(public).key, algorithms=[algorithm]) == {"a": 1}


def test_new_keys_are_strong_enough_and_different() -> None:
    assert isinstance(generate_key("ES384").key, ec.EllipticCurvePrivateKey)
    assert generate_key("ES384").key.key_size == 384
    assert generate_key("RS384").key.key_size == 3072
    assert generate_key("ES384").kid != generate_key("ES384").kid


def test_the_name_that_the_server_knows_the_key_by_is_kept() -> None:
    jwk = private_jwk(generate_key("ES384")) | {"kid": "given-by-the-server"}
    assert read_key(json.dumps(jwk).encode()).kid == "given-by-the-server"
    assert read_key(json.dumps(jwk | {"kid": 7}).encode()).kid == thumbprint(jwk)


def jwk_without_private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return json.dumps(public_jwks(read_key(pem(key)))).encode()


P384 = ec.generate_private_key(ec.SECP384R1())
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
JWK = private_jwk(read_key(pem(P384)))


NO_KEY: dict[str, tuple[Callable[[], bytes], str]] = {
    "curve": (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "curve secp256r1, ES384 needs P-384"),
    "small": (lambda: pem(SMALL), "1024 bits, at least 2048"),
    "kind": (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "neither EC P-384 nor RSA"),
    "password": (lambda: pem(P384, BestAvailableEncryption(b"hunter2")), "has a password"),
    "public pem": (
        lambda: P384.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "in PEM form",
    ),
    "public jwk": (lambda: jwk_without_private(P384), "holds the public key only"),
    "empty": (lambda: b"", "holds no private key in PEM form"),
    "binary": (lambda: b"\xff\xfe", "holds no private key in PEM form"),
    "no der": (lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "in PEM form"),
    "cut json": (lambda: b"{", "neither a JWK nor PEM"),
    "deep json": (lambda: b'{"a":' * 100_000, "neither a JWK nor PEM"),
    "no member": (lambda: b"{}", "not a complete EC or RSA key"),
    "no jwk": (lambda: b'{"keys": []}', "does not hold exactly one key"),
    "no object": (lambda: b'{"keys": [1]}', "does not hold exactly one key"),
    "no list": (lambda: b'{"keys": 1}', "does not hold exactly one key"),
    "symmetric": (lambda: b'{"kty": "oct", "k": "AAAA"}', "not a complete EC or RSA key"),
    "kty": (lambda: b'{"kty": ["EC"]}', "not a complete EC or RSA key"),
    "number": (lambda: json.dumps(JWK | {"x": 7}).encode(), "not a complete EC or RSA key"),
    "off the curve": (lambda: json.dumps(JWK | {"y": JWK["x"]}).encode(), "not a complete EC or RSA key"),
    "short": (lambda: json.dumps(JWK | {"d": "A"}).encode(), "not a complete EC or RSA key"),
}


@pytest.mark.parametrize("case", NO_KEY)
def test_what_is_no_key_is_said_and_not_shown(case: str) -> None:
    make, said = NO_KEY[case]
    content = make()
    with pytest.raises(SourceConfigError, match=said) as caught:
        read_key(content)
    secret = {JWK["d"], *content.decode(errors="replace").splitlines()[1:-1]}
    assert [line for line in secret if len(line) > 20 and line in f"{caught.value!r}"] == []


def test_a_key_does_not_show_itself() -> None:
    key = read_key(pem(P384))
    assert JWK["d"] not in repr(key)
    assert repr(key) == f"SigningKey(algorithm='ES384', kid='{key.kid}')"
