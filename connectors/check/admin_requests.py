"""What to ask of the administrator of a server, ready to send: plain words, no secret, no patient.

`{types}` stands for the resource types that share the sentence (`findings.Diagnosis.requests` fills it in).
"""

from __future__ import annotations


def reach(server: str) -> str:
    """No answer at all."""
    return (
        f"Please let the machine that periop runs on reach {server}, and tell us if a proxy or a certificate authority "
        "of your own stands between: it gets no usable answer."
    )


def certificate(server: str) -> str:
    """TLS fails."""
    return (
        f"Please send us the certificate (PEM) of the authority that signed the one of {server}, and tell us if the "
        "server asks for a client certificate: no encrypted connection can be made."
    )


def base_url(server: str, found: str) -> str:
    """Something else than FHIR answers."""
    return f"Please tell us the base URL of the FHIR R4 API at {server} and how a program signs in to it: {found}."


def sign_in(server: str) -> str:
    """401, and nothing was configured to sign in with."""
    return base_url(server, "it asks for credentials (401)")


def version(server: str, found: str) -> str:
    """Another FHIR version."""
    return (
        f"Please give us a FHIR R4 (4.0.1) endpoint: the one at {server} speaks FHIR {found or 'of unknown version'}."
    )


def credentials(server: str) -> str:
    """401."""
    return (
        f"Please check that the client of periop is registered, enabled and not expired at {server}: "
        "its credentials are not accepted (401)."
    )


def token(server: str) -> str:
    """No token."""
    return (
        f"Please check the registration of the client of periop for {server} (client id, public key or JWKS, scopes, "
        "and the clock of the token server): it is given no token."
    )


def scopes(server: str, missing: str) -> str:
    """The token has less than was asked for."""
    return f"Please grant the client of periop the SMART scopes {missing} at {server}."


def read(server: str) -> str:
    """403 for a type."""
    return (
        f"Please allow the client of periop to read and search {{types}} at {server} "
        "(SMART scopes system/<type>.rs or system/<type>.read): the search is answered with 403."
    )


def type_served(server: str) -> str:
    """404 for a type."""
    return f"Please tell us how {server} offers {{types}} (FHIR R4), or that it has none: the type is not served (404)."


def fault(server: str, status: str) -> str:
    """The server fails."""
    return f"Please look into the log of {server}: a search for {{types}} ends with {status}."


def parameter(server: str, name: str, found: str) -> str:
    """A search parameter is refused or ignored."""
    return f"Please switch on the search parameter `{name}` of {{types}} (FHIR R4) at {server}: it is {found}."


def changes(server: str, found: str) -> str:
    """`_lastUpdated` is refused or ignored."""
    return (
        f"Please switch on the search parameter `_lastUpdated` of {{types}} at {server}: it is {found}, "
        "so periop has to read everything every night."
    )


def history(server: str) -> str:
    """No `_history` of a type."""
    return (
        f"Please switch on the history of {{types}} (GET [base]/<type>/_history?_since=…) at {server} and allow the "
        "client of periop to read it: without it deletions are found only by reading everything again."
    )


def links(server: str, other: str) -> str:
    """Links name another host."""
    return (
        f"Please correct the base URL that the FHIR server at {server} writes into its links "
        f"(HAPI: server_address; behind a gateway: the forwarded host): its next link leads to {other}."
    )


def paging(server: str, found: str) -> str:
    """A next link does not work."""
    return f"Please make the next links of search results work at {server}: {found}."


def date(server: str) -> str:
    """No Date header."""
    return (
        f"Please have {server} send the header Date (RFC 9110, 6.6.1): without it periop has no clock to ask for "
        "changes by."
    )


def clock(server: str, seconds: int) -> str:
    """The clock is off."""
    where = "behind" if seconds < 0 else "ahead of"
    return f"Please set the clock of {server} by NTP: it is {abs(seconds)} s {where} ours."


def gzip(server: str) -> str:
    """Answers are not compressed."""
    return f"Please switch on gzip for application/fhir+json at {server}: answers come uncompressed."


def export(server: str, level: str) -> str:
    """$export is not listed at the level that is configured."""
    return f"Please switch on the Bulk Data $export at the {level} level of {server}, or tell us where it is offered."


def group(server: str, status: int) -> str:
    """The configured Group cannot be read."""
    return (
        f"Please allow the client of periop to read the Group that it exports at {server}, and check its id: "
        f"it is answered with {status}."
    )
