"""Requests to the administrator of a server, ready to send: plain words, no secret, nothing of a patient.

`{types}` stands for the resource types that share a request; `findings.Diagnosis.requests` fills it in.
"""

from __future__ import annotations


def allow_connection(server: str) -> str:
    """Return the request for a server that gives no answer at all."""
    return (
        f"Please let the machine that periop runs on reach {server}, and tell us if there is a proxy or a certificate "
        "authority of your own in between: periop gets no usable answer."
    )


def send_certificate(server: str) -> str:
    """Return the request for a server with which TLS fails."""
    return (
        f"Please send us the certificate (PEM) of the authority that signed the certificate of {server}, and tell us "
        "if the server asks for a client certificate: no encrypted connection can be made."
    )


def name_base_url(server: str, reason: str) -> str:
    """Return the request for a server that answers with something other than FHIR."""
    return f"Please tell us the base URL of the FHIR R4 API at {server} and how a program signs in to it: {reason}."


def explain_sign_in(server: str) -> str:
    """Return the request for a server that answers 401, where no credentials are configured."""
    return name_base_url(server, "it asks for credentials (401)")


def offer_r4(server: str, version: str) -> str:
    """Return the request for a server of another FHIR version."""
    return (
        f"Please give us a FHIR R4 (4.0.1) endpoint: the one at {server} speaks FHIR {version or 'of unknown version'}."
    )


def check_client(server: str) -> str:
    """Return the request for a server that answers 401 to the credentials."""
    return (
        f"Please check that the client of periop is registered, enabled and not expired at {server}: "
        "its credentials are not accepted (401)."
    )


def check_token_registration(server: str) -> str:
    """Return the request for a token endpoint that gives no token."""
    return (
        f"Please check the registration of the client of periop for {server} (client id, public key or JWKS, scopes, "
        "and the clock of the token server): it is given no token."
    )


def grant_scopes(server: str, missing: str) -> str:
    """Return the request for a token with fewer scopes than asked for."""
    return f"Please grant the client of periop the SMART scopes {missing} at {server}."


def allow_reading(server: str) -> str:
    """Return the request for a type that is answered with 403."""
    return (
        f"Please allow the client of periop to read and search {{types}} at {server} "
        "(SMART scopes system/<type>.rs or system/<type>.read): the search is answered with 403."
    )


def serve_type(server: str) -> str:
    """Return the request for a type that is answered with 404."""
    return f"Please tell us how {server} offers {{types}} (FHIR R4), or that it has none: the type is not served (404)."


def inspect_log(server: str, outcome: str) -> str:
    """Return the request for a server that fails."""
    return f"Please look into the log of {server}: a search for {{types}} ends with {outcome}."


def enable_parameter(server: str, name: str, how: str) -> str:
    """Return the request for a search parameter that is refused or ignored."""
    return f"Please switch on the search parameter `{name}` of {{types}} (FHIR R4) at {server}: it is {how}."


def enable_last_updated(server: str, how: str) -> str:
    """Return the request for a server where `_lastUpdated` is refused or ignored."""
    return (
        f"Please switch on the search parameter `_lastUpdated` of {{types}} at {server}: it is {how}, "
        "so periop has to read everything every night."
    )


def compare_instants(server: str) -> str:
    """Return the request for a server that compares `_lastUpdated` without the zone."""
    return (
        f"Please have {server} compare `_lastUpdated` as a point in time (FHIR R4, search.html#date): the same instant "
        "in another time zone finds other resources, so changes are missed."
    )


def enable_history(server: str) -> str:
    """Return the request for a type without `_history`."""
    return (
        f"Please switch on the history of {{types}} (GET [base]/<type>/_history?_since=…) at {server} and allow the "
        "client of periop to read it: without it, deletions are found only by reading the ids of everything again."
    )


def correct_links(server: str, other: str) -> str:
    """Return the request for a server whose links name another host."""
    return (
        f"Please correct the base URL that the FHIR server at {server} writes into its links "
        f"(HAPI: server_address; behind a gateway: the forwarded host): its next link leads to {other}."
    )


def repair_paging(server: str, reason: str) -> str:
    """Return the request for a server whose next links do not work."""
    return f"Please make the next links of search results work at {server}: {reason}."


def send_date(server: str) -> str:
    """Return the request for a server that sends no Date."""
    return (
        f"Please have {server} send the header Date (RFC 9110, 6.6.1): without it periop has no point in time from "
        "which to ask for changes."
    )


def set_clock(server: str, seconds: int) -> str:
    """Return the request for a server whose clock is wrong. seconds: negative if it is behind."""
    where = "behind" if seconds < 0 else "ahead of"
    return f"Please set the clock of {server} by NTP: it is {abs(seconds)} s {where} ours."


def enable_gzip(server: str) -> str:
    """Return the request for a server that does not compress its responses."""
    return f"Please switch on gzip for application/fhir+json at {server}: its responses are not compressed."


def shorten_ids(server: str) -> str:
    """Return the request for a server whose ids are longer than FHIR allows."""
    return (
        f"Some ids of {{types}} at {server} have more than 64 characters, which FHIR R4 does not allow "
        "(datatypes.html#id): do you plan to change that?"
    )


def enable_export(server: str, level: str) -> str:
    """Return the request for a server that does not list $export at the configured level."""
    return f"Please switch on the Bulk Data $export at the {level} level of {server}, or tell us where it is offered."


def allow_group(server: str, status: int) -> str:
    """Return the request for a server that does not let us read the configured Group."""
    return (
        f"Please allow the client of periop to read the Group of its patients at {server}, and check its id: "
        f"it is answered with {status}."
    )
