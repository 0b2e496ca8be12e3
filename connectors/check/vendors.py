"""The servers that are known: which one this is, and what need not be asked of its administrator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.check.findings import Finding, FindingLevel, read_in_full, without_date
from connectors.fhir.capability import CapabilityStatement

# Checks whose failure says no more than that the site is read in a way that the server does not offer.
READING = frozenset({"cohort", "read", "access", "export"})


@dataclass(frozen=True)
class KnownServer:
    """The facts about the server of one vendor that a check uses.

    name: the value of `vendor` in the settings. title: its name in a sentence. software: how its CapabilityStatement
    names the software or its maker. lacks: checks that cannot succeed there. unfit: by kind of site (search, bulk), why
    it cannot be read that way.
    """

    name: str
    title: str
    software: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()
    unfit: Mapping[str, str] | None = None

    def calls_itself(self, statement: CapabilityStatement) -> bool:
        """Return whether a CapabilityStatement is one of its own."""
        # Vendors fill different ones of these: Oracle Health names no software, Epic no publisher.
        told = (statement.software.name, statement.publisher, statement.implementation.description)
        return any(name and name.casefold().startswith(each.casefold()) for name in told for each in self.software)


def recognized(statement: CapabilityStatement | None, known: Iterable[KnownServer]) -> KnownServer | None:
    """Return the server that a CapabilityStatement is of, None where it says nothing that is known."""
    return next((each for each in known if statement and each.calls_itself(statement)), None)


def vendor_findings(found: KnownServer | None, configured: KnownServer | None, kind: str) -> Iterable[Finding]:
    """Yield what follows for the settings of a site that is read by `kind` (search, bulk)."""
    if found and configured is None:
        message = f'it says that it is {found.title}: set vendor = "{found.name}" for the defaults that fit'
        yield Finding("vendor", FindingLevel.NOTE, message)
    elif found and configured and found.name != configured.name:
        message = f'it says that it is {found.title}, but vendor = "{configured.name}" is configured: correct one'
        yield Finding("vendor", FindingLevel.NOTE, message)
    elif configured:
        yield Finding("vendor", FindingLevel.OK, f"{configured.title}, as the site says")
    # What the site says counts: a gateway may answer with a statement of its own.
    server = configured or found
    if server and (reason := (server.unfit or {}).get(kind)):
        other = "bulk" if kind == "search" else "search"
        yield Finding("vendor", FindingLevel.NOTE, f'{server.title} {reason}: set kind = "{other}"')


def without_vain_requests(findings: Sequence[Finding], server: KnownServer | None, kind: str) -> tuple[Finding, ...]:
    """Return the findings, without requests for what this server cannot do, or for what this sync would not use."""
    return tuple(replace(each, request="") if _vain(each, findings, server, kind) else each for each in findings)


def _vain(finding: Finding, findings: Sequence[Finding], server: KnownServer | None, kind: str) -> bool:
    # An administrator cannot switch on what the product does not have.
    if server and finding.check in server.lacks:
        return True
    if server and finding.check in READING and kind in (server.unfit or {}):
        return True
    # Without a Date there is no time to ask for changes from; and a type that is read in full shows its deletions too.
    if finding.check == "changes":
        return without_date(findings)
    return finding.check == "history" and finding.resource_type in read_in_full(findings)
