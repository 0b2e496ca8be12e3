"""Key pairs of SMART Backend Services: EC P-384 for ES384, RSA for RS384 (SMART App Launch 2.2, "Asymmetric
client authentication"). The private half signs; the server gets the public half as a JWK Set (RFC 7517).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from connectors.errors import SourceConfigError

Algorithm = Literal["ES384", "RS384"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
JWK = dict[str, Any]

RSA_BITS = 3072  # of a new key: 128 bits of security (NIST SP 800-57, part 1, table 2)
RSA_LEAST = 2048  # RFC 7518, 3.3
THUMBPRINT = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}  # RFC 7638, 3.2
REMEDY = "make a key with `periop keys new`"


@dataclass(frozen=True)
class SigningKey:
    """A private key, by what it signs with and by its name at the server."""

    algorithm: Algorithm
    kid: str
    key: PrivateKey = field(repr=False)


def generate_key(algorithm: Algorithm) -> SigningKey:
    """A new key pair; its name is the thumbprint of its public half."""
    if algorithm == "ES384":
        return _named(ec.generate_private_key(ec.SECP384R1()), None)
    return _named(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS), None)


def read_key(content: bytes) -> SigningKey:
    """The private key of a file: a JWK, a JWK Set with one key, or PEM without a password.

    The `kid` of a JWK is kept, since the server may know the key by it. Raises SourceConfigError, which says
    what is wrong with the key and shows nothing of it.
    """
    if content.lstrip()[:1] == b"{":
        jwk = _the_jwk(content)
        return _named(_of_jwk(jwk), jwk.get("kid"))
    return _named(_of_pem(content), None)


def private_jwk(key: SigningKey) -> JWK:
    """The key with its private half, for the file that only its owner reads."""
    return _members(key.key) | {"kid": key.kid, "alg": key.algorithm}


def public_jwks(key: SigningKey) -> dict[str, list[JWK]]:
    """The public half as a JWK Set: what the server's administrator registers."""
    return {"keys": [_members(key.key.public_key()) | {"kid": key.kid, "alg": key.algorithm, "use": "sig"}]}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638 with SHA-256: the same name for the same key, whoever computes it."""
    required = {name: jwk[name] for name in THUMBPRINT[jwk["kty"]]}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def _named(key: object, kid: object) -> SigningKey:
    algorithm, checked = _checked(key)
    given = kid if isinstance(kid, str) and kid else thumbprint(_members(checked.public_key()))
    return SigningKey(algorithm, given, checked)


def _checked(key: object) -> tuple[Algorithm, PrivateKey]:
    match key:
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP384R1):
            return "ES384", key
        case ec.EllipticCurvePrivateKey():
            raise SourceConfigError(f"the key is on the curve {key.curve.name}, ES384 needs P-384: {REMEDY}")
        case rsa.RSAPrivateKey() if key.key_size >= RSA_LEAST:
            return "RS384", key
        case rsa.RSAPrivateKey():
            raise SourceConfigError(f"the RSA key has {key.key_size} bits, {RSA_LEAST} is the least: {REMEDY}")
        case ec.EllipticCurvePublicKey() | rsa.RSAPublicKey():
            raise SourceConfigError("the file holds the public key only: give the private one that belongs to it")
        case _:
            raise SourceConfigError(f"the key is neither EC P-384 nor RSA: {REMEDY}")


def _the_jwk(content: bytes) -> JWK:
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        raise SourceConfigError(f"the file is neither a JWK nor PEM: {REMEDY}") from None
    keys = read.get("keys", [read])
    if not isinstance(keys, list) or len(keys) != 1 or not isinstance(keys[0], dict):
        raise SourceConfigError("the JWK Set does not hold one key: keep the one that is to sign in the file")
    return keys[0]


def _of_jwk(jwk: JWK) -> object:
    readers = {"EC": ECAlgorithm.from_jwk, "RSA": RSAAlgorithm.from_jwk}
    try:
        return readers[jwk["kty"]](jwk)
    except (KeyError, TypeError, ValueError, InvalidKeyError, AttributeError):
        raise SourceConfigError(f"the JWK is not a whole EC or RSA key: {REMEDY}") from None


def _of_pem(content: bytes) -> object:
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise SourceConfigError(f"the private key has a password, which key_file cannot have: {REMEDY}") from None
    except (ValueError, UnsupportedAlgorithm):
        remedy = "give blocks of -----BEGIN PRIVATE KEY-----, or a JWK"
        raise SourceConfigError(f"the file holds no private key in PEM form: {remedy}") from None


def _members(key: PrivateKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> JWK:
    """`kty` and the numbers of a key; what it may be used for is said elsewhere."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, True)
    else:
        members = RSAAlgorithm.to_jwk(key, True)
    return {name: value for name, value in members.items() if name != "key_ops"}
