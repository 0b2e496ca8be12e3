"""The provenance of the figures of a run: the version, the lake, and the day of each site's data, by the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from connectors.lake.table import Lake
from schedules.run.ledger import Ledger, OpenRun

if TYPE_CHECKING:
    from analytics.provenance import Provenance, SiteData
    from schedules.config.settings import Settings


def provenance(settings: Settings, run: OpenRun) -> Provenance:
    """Return what a release of `run` is made from.

    From the ledger and not from this run alone: `periop publish` must know of a sync that failed before.
    """
    from analytics.provenance import Provenance
    from mappers.build.cohort_folder import CohortFolder

    # By the tables in place and not by the settings, which may have changed since the last map.
    tables = CohortFolder(settings.cohort_dir).state()
    zone, lake = ZoneInfo(settings.schedule.timezone), Lake(settings.lake_dir)
    held = {file.site for file in lake.files()}
    return Provenance(
        version("periop-fhir"),
        _day(run.started, zone),
        lake.sync_number(),
        tuple(site_data(site, run.ledger, lake, zone, run.started, held=site in held) for site in settings.site_names),
        linked=tables is not None and tables.linked,
    )


def site_data(site: str, ledger: Ledger, lake: Lake, zone: ZoneInfo, now: datetime, *, held: bool) -> SiteData:
    """Return the days of the data of `site`; `held`: the lake has something of it."""
    from analytics.provenance import SiteData

    tried, whole = ledger.last_sync(site, now), ledger.last_sync(site, now, "ok")
    some = ledger.last_sync(site, now, "ok", "partial")
    complete = _day(whole[0].started, zone) if whole else None
    latest = _day(some[0].started, zone) if some and (held or whole) else None
    if held and latest is None:
        # A new ledger over an older lake: the cursor remembers the server's clock at the last complete sync.
        cursor = lake.cursor(site)
        if cursor and cursor.server_time:
            complete = latest = _day(datetime.fromisoformat(cursor.server_time), zone)
    return SiteData(site, complete, latest, tried is not None and tried[1].get("status") == "ok", held)


def _day(instant: datetime, zone: ZoneInfo) -> str:
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(zone).date().isoformat()
