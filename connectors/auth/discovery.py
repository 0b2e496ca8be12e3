"""Discovery of the token endpoint of a FHIR server.

It is named in `.well-known/smart-configuration` (SMART App Launch 2.2, "Conformance"), on older servers in the
extension oauth-uris of the CapabilityStatement (SMART App Launch 1.0).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from connectors.errors import AuthenticationError, ForeignOriginError, ProtocolError, RefusedError
from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.lenient import convert_leniently
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.retry import TruncatedError

WELL_KNOWN = "/.well-known/smart-configuration"
METADATA = "/metadata"
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
NOT_OFFERED = (AuthenticationError, ForeignOriginError, ProtocolError, RefusedError)


class SmartConfiguration(msgspec.Struct, frozen=True):
    """The token endpoint of a server, and the signature algorithms that it says it accepts: () if it does not say."""

    token_endpoint: str
    algorithms: tuple[str, ...] = msgspec.field(default=(), name="token_endpoint_auth_signing_alg_values_supported")


def discover(client: FhirClient) -> SmartConfiguration:
    """Ask the server for its token endpoint, without credentials.

    Raises AuthenticationError where it names none, UnavailableError where it does not answer.
    """
    for path, read, accept in (
        (WELL_KNOWN, from_well_known, "application/json"),
        (METADATA, from_capability_statement, "application/fhir+json"),
    ):
        try:
            document = client.get_parsed(client.base + path, path, _parse, {"Accept": accept})
        except NOT_OFFERED:
            continue  # servers answer 404, 401, a redirect to a login or a web page for what they do not have
        found = read(document)
        if found is not None:
            return found
    raise AuthenticationError(
        f"{redact_url(client.base)} names no token endpoint, neither at {WELL_KNOWN} nor in its CapabilityStatement: "
        "set token_url in `auth`, or another kind of `auth`"
    )


def from_well_known(document: Any) -> SmartConfiguration | None:
    """Read a smart-configuration document. Returns None if it names no token endpoint.

    >>> from_well_known({"token_endpoint": "https://sso.example/token"})
    SmartConfiguration(token_endpoint='https://sso.example/token', algorithms=())
    """
    named = isinstance(document, dict) and isinstance(document.get("token_endpoint"), str)
    return convert_leniently(document, SmartConfiguration) if named else None


def from_capability_statement(document: Any) -> SmartConfiguration | None:
    """Read the extension oauth-uris of a CapabilityStatement. Returns None if it names no token endpoint."""
    # Of any `rest`: some servers forget its mode, and a client part names no token endpoint.
    for rest in convert_leniently(document, CapabilityStatement).rest:
        for extension in rest.security.extension:
            for uri in extension.extension if extension.url == OAUTH_URIS else ():
                if uri.url == "token" and uri.value_uri is not None:
                    return SmartConfiguration(uri.value_uri)
    return None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ProtocolError("the answer is nested too deeply") from None
    except ValueError:
        if body.lstrip()[:1] == b"{" and body.rstrip()[-1:] != b"}":
            raise TruncatedError from None  # cut off without the protocol noticing: fetch it again
        raise ProtocolError("the answer is not JSON") from None
