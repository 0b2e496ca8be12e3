"""What a check of a site found, and which path the next sync takes for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Level(StrEnum):
    """ok: works. note: works less well, or could not be told. missing: the sync needs it. refused: the credentials
    are not accepted.
    """

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    check: what, by a short name. said: what was found, and what to do about it here. resource_type: '' where it is
    about the whole site. request: the sentence to send to the administrator of the server, '' where none is needed;
    `{types}` in it stands for the types of all findings with this sentence.
    """

    check: str
    level: Level
    said: str
    resource_type: str = ""
    request: str = ""


@dataclass(frozen=True)
class SyncPath:
    """How the next sync goes. transfer: how resources come. nights: what a night after the first asks for.
    deletions: how it is learnt that a resource is gone. why: a sentence for each of the three.
    """

    transfer: Literal["folder", "paged search", "bulk export"]
    nights: Literal["changes only", "changes of some", "everything"]
    deletions: Literal["by history", "by a comparison", "by the export", "never"]
    why: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """All of one site. `server`: scheme, host and port, or the path of a folder. `path` None: no sync is possible."""

    site: str
    kind: str
    server: str
    findings: tuple[Finding, ...]
    path: SyncPath | None

    @property
    def refused(self) -> bool:
        """Whether the credentials were not accepted somewhere."""
        return any(finding.level is Level.REFUSED for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether all that the sync needs works."""
        return not any(finding.level in (Level.MISSING, Level.REFUSED) for finding in self.findings)

    @property
    def requests(self) -> tuple[str, ...]:
        """What to send to the administrator of the server, each sentence once with all the types it is about."""
        types: dict[str, dict[str, None]] = {}
        for finding in self.findings:
            if finding.request:
                types.setdefault(finding.request, {})[finding.resource_type] = None
        return tuple(text.replace("{types}", listed([each for each in found if each])) for text, found in types.items())


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = words or ("",)
    return f"{', '.join(most)} and {last}" if most else last


def search_path(findings: Sequence[Finding], reconcile_days: float) -> SyncPath:
    """The path of a site that is read by search (`sources.search.sync_plan` decides it again in each sync)."""
    undated = any(each.check == "clock" and "Date" in each.said for each in findings)
    full = tuple(_not_ok(findings, "changes")) if not undated else tuple(_of(findings, "changes"))
    silent = tuple(kind for kind in _not_ok(findings, "history") if kind not in full)
    return SyncPath(
        "paged search",
        "changes only" if not full else "everything" if set(full) == set(_of(findings, "read")) else "changes of some",
        "by history" if not silent else "by a comparison",
        (
            "read by search: only the cohort leaves the server",
            _why_nights(full, undated),
            _why_deletions(silent, reconcile_days),
        ),
    )


def _why_nights(full: Sequence[str], undated: bool) -> str:
    if undated:
        return "the server does not tell its time, so every night reads everything"
    if full:
        return f"everything is read each night of {listed(full)}: _lastUpdated cannot be relied on there"
    return "every type honours _lastUpdated, so a night asks for what is new"


def _why_deletions(silent: Sequence[str], days: float) -> str:
    if silent:
        return f"what is gone of {listed(silent)} shows when all ids are compared, every {days:g} days"
    return "what is gone shows in the _history of a type, or because everything is read"


def export_path(full_days: float) -> SyncPath:
    """The path of a site that is read by Bulk Data export."""
    return SyncPath(
        "bulk export",
        "changes only",
        "by the export",
        (
            'kind = "bulk" is configured: the server prepares files of all that its level covers',
            "a night asks for what is new (_since); what is not changed and comes again is not stored again",
            f"what is gone shows in the list of deletions, or by a full export every {full_days:g} days",
        ),
    )


def _of(findings: Iterable[Finding], check: str) -> list[str]:
    return [each.resource_type for each in findings if each.check == check]


def _not_ok(findings: Iterable[Finding], check: str) -> list[str]:
    return _of([each for each in findings if each.level is not Level.OK], check)
