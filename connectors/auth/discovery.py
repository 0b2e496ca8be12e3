"""Where a FHIR server has its token endpoint: `.well-known/smart-configuration` (SMART App Launch 2.2, "Conformance"),

else the extension oauth-uris of its CapabilityStatement (SMART App Launch 1.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.errors import AuthenticationError, ForeignOriginError, ProtocolError, RefusedError
from connectors.http.client import FhirClient, TruncatedError
from connectors.http.origin import redact_url

WELL_KNOWN = "/.well-known/smart-configuration"
METADATA = "/metadata"
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
NOT_THERE = (AuthenticationError, ForeignOriginError, ProtocolError, RefusedError)


@dataclass(frozen=True)
class SmartConfiguration:
    """What a server declares. `found_at`: the path that says so. An empty list: it does not say."""

    token_endpoint: str
    found_at: str
    auth_methods: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


def discover(client: FhirClient) -> SmartConfiguration:
    """Ask the server, without credentials. Raises AuthenticationError where it names no token endpoint, and
    UnavailableError where it does not answer."""
    for path, read, accept in (
        (WELL_KNOWN, of_well_known, "application/json"),
        (METADATA, of_capability_statement, "application/fhir+json"),
    ):
        try:
            content = client.get_parsed(client.base + path, path, _document, {"Accept": accept})
        except NOT_THERE:
            continue
        found = read(content)
        if found is not None:
            return found
    raise AuthenticationError(
        f"{redact_url(client.base)} names no token endpoint, neither at {WELL_KNOWN} nor in its CapabilityStatement: "
        "set token_url in `auth`, or another kind of `auth`"
    )


def of_well_known(content: Any) -> SmartConfiguration | None:
    """The smart-configuration document, None if it names no token endpoint."""
    endpoint = content.get("token_endpoint") if isinstance(content, dict) else None
    if not isinstance(endpoint, str):
        return None
    return SmartConfiguration(
        endpoint,
        WELL_KNOWN,
        _texts(content, "token_endpoint_auth_methods_supported"),
        _texts(content, "token_endpoint_auth_signing_alg_values_supported"),
        _texts(content, "scopes_supported"),
        _texts(content, "capabilities"),
    )


def of_capability_statement(content: Any) -> SmartConfiguration | None:
    """The extension oauth-uris of a CapabilityStatement, None if there is none."""
    for rest in _list(content, "rest"):
        security = rest.get("security") if isinstance(rest, dict) else None
        for extension in _named(security, OAUTH_URIS):
            for token in _named(extension, "token"):
                if isinstance(endpoint := token.get("valueUri"), str):
                    return SmartConfiguration(endpoint, METADATA)
    return None


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise ProtocolError("the answer is nested too deeply") from None
    except ValueError:
        if body.lstrip()[:1] == b"{" and body.rstrip()[-1:] != b"}":
            raise TruncatedError from None
        raise ProtocolError("the answer is not JSON") from None


def _named(element: Any, url: str) -> Iterator[dict[str, Any]]:
    for extension in _list(element, "extension"):
        if isinstance(extension, dict) and extension.get("url") == url:
            yield extension


def _list(element: Any, name: str) -> list[Any]:
    value = element.get(name) if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _texts(element: Any, name: str) -> tuple[str, ...]:
    return tuple(value for value in _list(element, name) if isinstance(value, str))
