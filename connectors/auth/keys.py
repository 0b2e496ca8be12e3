"""Key pairs of SMART Backend Services: EC P-384 for ES384, RSA for RS384.

(SMART App Launch 2.2, "Asymmetric client authentication".) The private key signs; the server gets the public key as a
JWK Set (RFC 7517).
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
RSA_MIN_BITS = 2048  # RFC 7518, 3.3
THUMBPRINT_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}  # RFC 7638, 3.2
REMEDY = "make a key with `periop keys new`"


@dataclass(frozen=True)
class SigningKey:
    """A private key, its algorithm, and its name (`kid`) at the server."""

    algorithm: Algorithm
    kid: str
    key: PrivateKey = field(repr=False)


def generate_key(algorithm: Algorithm) -> SigningKey:
    """Generate a key pair. Its name is the thumbprint of its public key."""
    if algorithm == "ES384":
        return _signing_key(ec.generate_private_key(ec.SECP384R1()), None)
    return _signing_key(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS), None)


def read_key(content: bytes) -> SigningKey:
    """Read a private key from a JWK, a JWK Set with one key, or PEM without a password.

    The `kid` of a JWK is kept, since the server may know the key by it. Raises SourceConfigError, which says what is
    wrong with the key and shows nothing of it.

    >>> key = generate_key("ES384")
    >>> read_key(json.dumps(private_jwk(key)).encode()).kid == key.kid
    True
    """
    if content.lstrip()[:1] == b"{":  # PEM never starts so
        return _signing_key(*_from_jwk(content))
    return _signing_key(_from_pem(content), None)


def private_jwk(key: SigningKey) -> JWK:
    """Return the key with its private half, for a file that only its owner may read."""
    return _jwk_members(key.key) | {"kid": key.kid, "alg": key.algorithm}


def public_jwks(key: SigningKey) -> dict[str, list[JWK]]:
    """Return the public key as a JWK Set, which the server's administrator registers."""
    return {"keys": [_jwk_members(key.key.public_key()) | {"kid": key.kid, "alg": key.algorithm, "use": "sig"}]}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint of a key (RFC 7638 with SHA-256), the same whoever computes it."""
    # Only the required members, sorted and without spaces, so that every program hashes the same bytes.
    required = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def _signing_key(key: object, kid: object) -> SigningKey:
    algorithm, private_key = _check_key(key)
    if not isinstance(kid, str) or not kid:
        kid = thumbprint(_jwk_members(private_key.public_key()))
    return SigningKey(algorithm, kid, private_key)


def _check_key(key: object) -> tuple[Algorithm, PrivateKey]:
    match key:
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP384R1):
            return "ES384", key
        case ec.EllipticCurvePrivateKey():
            raise SourceConfigError(f"the key is on the curve {key.curve.name}, ES384 needs P-384: {REMEDY}")
        case rsa.RSAPrivateKey() if key.key_size >= RSA_MIN_BITS:
            return "RS384", key
        case rsa.RSAPrivateKey():
            raise SourceConfigError(
                f"the RSA key has {key.key_size} bits, at least {RSA_MIN_BITS} are needed: {REMEDY}"
            )
        case ec.EllipticCurvePublicKey() | rsa.RSAPublicKey():  # the file for the server, given by mistake
            raise SourceConfigError("the file holds the public key only: give the private key that belongs to it")
        case _:
            raise SourceConfigError(f"the key is neither EC P-384 nor RSA: {REMEDY}")


def _from_jwk(content: bytes) -> tuple[object, object]:
    """Return the key of a JWK, and its `kid` if it has one."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise SourceConfigError(f"the file is neither a JWK nor PEM: {REMEDY}") from None
    keys = document.get("keys", [document])
    if not isinstance(keys, list) or len(keys) != 1 or not isinstance(keys[0], dict):
        raise SourceConfigError("the JWK Set does not hold exactly one key: leave only the one that signs in the file")
    jwk, readers = keys[0], {"EC": ECAlgorithm.from_jwk, "RSA": RSAAlgorithm.from_jwk}
    try:
        return readers[jwk["kty"]](jwk), jwk.get("kid")
    except (KeyError, TypeError, ValueError, InvalidKeyError, AttributeError):  # PyJWT checks few types itself
        # Without the cause: its message may quote the key.
        raise SourceConfigError(f"the JWK is not a complete EC or RSA key: {REMEDY}") from None


def _from_pem(content: bytes) -> object:
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:  # how cryptography says that a password is needed
        raise SourceConfigError(f"the private key has a password, which key_file cannot have: {REMEDY}") from None
    except (ValueError, UnsupportedAlgorithm):
        remedy = "give blocks of -----BEGIN PRIVATE KEY-----, or a JWK"
        raise SourceConfigError(f"the file holds no private key in PEM form: {remedy}") from None


def _jwk_members(key: PrivateKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> JWK:
    """Return `kty` and the numbers of a key, without `key_ops`: `use` and `alg` say what the key is for."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, True)
    else:
        members = RSAAlgorithm.to_jwk(key, True)
    return {name: value for name, value in members.items() if name != "key_ops"}
