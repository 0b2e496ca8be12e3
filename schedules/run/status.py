"""The status of a data directory, read from ledger, lake, cohort tables and releases.

Writes nothing and takes no lock, so it may run at any time.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from connectors.lake.table import Lake
from schedules.config.cron import CronSchedule
from schedules.config.settings import Settings
from schedules.config.site_settings import Site
from schedules.errors import ExitCode, PeriopError
from schedules.release.publish import current_release
from schedules.run.ledger import Ledger, Run, read_ledger
from schedules.run.lock import holder_pid, is_held

GRACE = timedelta(hours=2)  # for a run that takes longer than the last one
RUNS_SHOWN = 10  # a week of nightly runs, and some by hand between them


def status(settings: Settings, now: datetime) -> tuple[dict[str, Any], ExitCode]:
    """Return the status as plain data, with the exit code for a monitor.

    STALE where a slot of the schedule passed two hours ago and more without a good run since, or the last success of a
    site is older than its limit; PARTIAL where the last sync of a site was not complete, or there was none.
    """
    # Asked before the ledger is read: a run that ends in between is then shown with how it ended.
    running = is_held(settings.data_dir)
    with read_ledger(settings.ledger_file) as ledger:
        last = ledger.last_complete(now) if ledger else None
        night = ledger.last_night(now, running=running) if ledger else None
        stale_after = _stale_after(settings, last)
        sites = [_site(site, ledger, settings, now) for site in settings.sites]
        stale = stale_after is None or now > stale_after or any(site["stale"] for site in sites)
        missing = [site["site"] for site in sites if site["status"] != "ok"]
        found = {
            "now": _instant(now),
            "data_dir": str(settings.data_dir),
            "study": settings.study,
            "release": _release(settings),
            "release_waits": ledger.why_no_release() if ledger else None,
            "running_pid": holder_pid(settings.data_dir) if running else None,
            "last_good_run": _instant(last.finished) if last else None,
            "last_night": _run(night, running) if night else None,
            "stale": stale,
            "stale_after": _instant(stale_after),
            "sites_missing": missing,
            "runs_from_the_future": ledger.from_the_future(now) if ledger else 0,
            "next_due": _next_due(settings, now),
            "lake": _lake(settings),
            "sites": sites,
            "runs": [_run(run, running) for run in (ledger.last(RUNS_SHOWN) if ledger else ())],
            "quality": _quality(settings),
        }
    if stale:
        return found, ExitCode.STALE
    return found, ExitCode.PARTIAL if missing else ExitCode.OK


def _stale_after(settings: Settings, last: Run | None) -> datetime | None:
    """Return when a good run is missing, None where there never was one."""
    if last is None or last.finished is None:
        return None
    schedule = CronSchedule(settings.schedule.nightly, ZoneInfo(settings.schedule.timezone))
    due = schedule.next_after(last.finished)
    following = schedule.next_after(due) if due else None
    # Whichever is later: a weekend without slots is no gap, and who runs by another timer runs once a period.
    return max(due, last.finished + (following - due)) + GRACE if due and following else None


def _release(settings: Settings) -> dict[str, Any] | None:
    number = current_release(settings.releases_dir)
    return None if number is None else {"number": number, "path": str(settings.releases_dir / str(number))}


def _next_due(settings: Settings, now: datetime) -> str | None:
    # In UTC like all instants: one clock for status, log and ledger, whatever the zone of the schedule.
    slot = CronSchedule(settings.schedule.nightly, ZoneInfo(settings.schedule.timezone)).next_after(now)
    return _instant(slot.astimezone(UTC)) if slot else None


def _lake(settings: Settings) -> dict[str, int]:
    # Row counts from the metadata of the table: no file of the lake is opened.
    lake = Lake(settings.lake_dir)
    rows: Counter[str] = Counter()
    for file in lake.files() if lake.exists() else ():
        rows[file.resource_type] += file.rows
    return dict(sorted(rows.items()))


def _site(site: Site, ledger: Ledger | None, settings: Settings, now: datetime) -> dict[str, Any]:
    # The last sync, also a failed one: its messages say why the site is missing from the release.
    found = ledger.last_sync(site.name, now) if ledger else None
    good = ledger.last_sync(site.name, now, "ok", "partial") if ledger else None
    run, report = found or (None, {})
    success = good[0].started if good else None
    # A site that never answered is as old as the first try.
    since = success or (ledger.first_sync(site.name, now) if ledger else None)
    return {
        "site": site.name,
        "kind": site.kind,
        "last_sync": _instant(run.started) if run else None,
        "last_success": _instant(success),
        "stale": since is not None and now - since > timedelta(days=settings.schedule.site_days),
        "status": report.get("status"),
        "counts": report.get("counts", {}),
        "by_type": report.get("by_type", {}),
        "reasons": report.get("reasons", {}),
        "messages": report.get("messages", []),
        "notes": report.get("notes", []),
        "deleted": report.get("deleted", {}),
        "removed": report.get("removed", {}),
        "announced": report.get("announced", {}),
    }


def _run(run: Run, running: bool) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "started": _instant(run.started),
        "finished": _instant(run.finished) if run.finished else None,
        # A run that is open while nobody holds the lock was killed; the next run records that.
        "status": "interrupted" if run.status == "running" and not running else run.status,
        "exit_code": run.exit_code,
        "release": run.release,
        "error": run.detail.get("error"),
    }


def _quality(settings: Settings) -> list[dict[str, Any]]:
    file = settings.cohort_dir / "quality.parquet"
    if not file.is_file():
        return []
    # Read without the lock: a map that is in progress replaces the file in one step, so it is complete.
    try:
        table = pq.read_table(file, columns=["SITEID", "DOMAIN", "ISSUE", "COUNT"])
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise PeriopError(f"{file}: cannot be read ({kind}); rebuild it with `periop map`") from None
    names = ("site", "domain", "issue", "count")
    return [dict(zip(names, row.values(), strict=True)) for row in table.to_pylist()]


def _instant(instant: datetime | None) -> str | None:
    return instant.isoformat(timespec="seconds") if instant else None
