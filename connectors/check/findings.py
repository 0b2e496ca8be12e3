"""The findings of a check of one site, and the path that its next sync takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class FindingLevel(StrEnum):
    """The severity of a finding.

    ok: it works. note: it works less well, or could not be determined. missing: the sync needs it. refused: the
    credentials are not accepted.
    """

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"
    REFUSED = "refused"


# Checks of one resource type: where one of them fails, the others can be read.
PER_TYPE = frozenset({"read", "ids", "scopes"})


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    check: its short name. message: what was found, and what to do about it here. resource_type: '' if it is about the
    whole site. request: what to ask the administrator of the server for (`admin_requests`), '' if nothing; `{types}`
    in it stands for the types of all findings with the same request.
    """

    check: str
    level: FindingLevel
    message: str
    resource_type: str = ""
    request: str = ""


@dataclass(frozen=True)
class SyncPath:
    """The way that the next sync of a site will take.

    transfer: how resources come. nightly: what a run after the first one reads. deletions: how deletions are noticed.
    why: a sentence for each of the three.
    """

    transfer: Literal["folder", "paged search", "bulk export"]
    nightly: Literal["changes only", "changes of some", "everything"]
    deletions: Literal["by history", "by a comparison", "by the export", "never"]
    why: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The findings of one site.

    server: scheme, host and port, or the path of a folder. path: None if no sync is possible.
    """

    site: str
    kind: str
    server: str
    findings: tuple[Finding, ...]
    path: SyncPath | None

    @property
    def refused(self) -> bool:
        """Return whether the credentials were not accepted somewhere."""
        return any(finding.level is FindingLevel.REFUSED for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Return whether everything that the sync needs works."""
        return not any(finding.level in (FindingLevel.MISSING, FindingLevel.REFUSED) for finding in self.findings)

    @property
    def partial(self) -> bool:
        """Return whether a sync is possible, and all that is missing is resources that it will not have."""
        missing = {finding.check for finding in self.findings if finding.level is FindingLevel.MISSING}
        return self.path is not None and not self.refused and bool(missing) and missing <= PER_TYPE

    @property
    def requests(self) -> tuple[str, ...]:
        """Return the requests to the administrator of the server, each once, with all the types it is about."""
        # Five types that lack the same permission are one sentence to the administrator, not five.
        types: dict[str, dict[str, None]] = {}  # dictionaries for their order
        for finding in self.findings:
            if finding.request:
                types.setdefault(finding.request, {})[finding.resource_type] = None
        return tuple(
            request.replace("{types}", join_words([each for each in found if each])) for request, found in types.items()
        )


def join_words(words: Sequence[str]) -> str:
    """Join words as in a sentence.

    >>> join_words(["Patient", "Condition", "Observation"])
    'Patient, Condition and Observation'
    """
    *most, last = words or ("",)
    return f"{', '.join(most)} and {last}" if most else last


def search_path(findings: Sequence[Finding], reconcile_days: float) -> SyncPath:
    """Return the path of a site that is read by search (`sources.search.sync_plan` decides it again in each sync)."""
    undated, full = without_date(findings), read_in_full(findings)
    # Reading a type in full shows its deletions too, so a missing history matters only for the others.
    without_history = tuple(kind for kind in _types_not_ok(findings, "history") if kind not in full)
    if undated:
        why_nightly = "the server does not send its time, so every nightly run reads everything"
    elif full:
        why_nightly = f"every nightly run reads all of {join_words(full)}: _lastUpdated cannot be relied on there"
    else:
        why_nightly = "every type honours _lastUpdated, so a nightly run asks for changes only"
    whole = bool(full) and set(full) == set(_types(findings, "changes"))
    if whole:
        why_deletions = "deletions are found because everything is read"
    elif without_history:
        why_deletions = (
            f"deletions of {join_words(without_history)} are found by comparing all ids, every {reconcile_days:g} days"
        )
    else:
        why_deletions = "deletions are found in the _history of a type, or because everything is read"
    return SyncPath(
        "paged search",
        "everything" if whole else "changes of some" if full else "changes only",
        "by a comparison" if whole or without_history else "by history",
        ("read by search: only the cohort leaves the server", why_nightly, why_deletions),
    )


def without_date(findings: Iterable[Finding]) -> bool:
    """Return whether the server does not send its time."""
    # The two notes about the clock differ: a wrong clock does no harm, since all times are those of the server.
    return any(each.check == "clock" and "Date" in each.message for each in findings)


def read_in_full(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the types that are read in full each night: all without a Date, which changes would be asked for from."""
    return tuple(_types(findings, "changes") if without_date(findings) else _types_not_ok(findings, "changes"))


def export_path(full_days: float, *, everything: bool = False) -> SyncPath:
    """Return the path of a site that is read by Bulk Data export. everything: each export is a full one."""
    configured = 'kind = "bulk" is configured: the server prepares files of everything that its level covers'
    if everything:
        nightly = "single_export is configured for a Group: every nightly run exports everything of its patients"
        return SyncPath("bulk export", "everything", "by the export", (configured, nightly, "so deletions show too"))
    return SyncPath(
        "bulk export",
        "changes only",
        "by the export",
        (
            configured,
            "a nightly run asks for changes only (_since); what comes again unchanged is not stored again",
            f"deletions are found in the export's list of deletions, or by a full export every {full_days:g} days",
        ),
    )


def _types(findings: Iterable[Finding], check: str) -> list[str]:
    return [each.resource_type for each in findings if each.check == check]


def _types_not_ok(findings: Iterable[Finding], check: str) -> list[str]:
    return _types([each for each in findings if each.level is not FindingLevel.OK], check)
