"""The provenance of a release: the version of periop, the state of the lake, and the day of each site's data.

It says nothing of patients, so disclosure control passes it on as it is. Days are ISO dates in the time zone of the
schedule, in which the hospital counts its nights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class SiteData:
    """The data that the figures have of one site.

    Attributes:
        complete: day of the last sync that read everything; None: there never was one.
        latest: day of the last sync that read anything, whole or in part; None: there was none, or nobody knows.
        up_to_date: the last sync that was tried read everything.
        held: the lake has something of the site.
    """

    site: str
    complete: str | None
    latest: str | None
    up_to_date: bool
    held: bool = True

    def sentence(self) -> str:
        """Return what a reader must know of a site that is not up to date: which of its data are in the figures."""
        if not self.held and self.latest is None:
            return f"{self.site} has never been read: no figure includes its patients."
        if self.latest is None:
            return f"{self.site} is not up to date: the figures include its data of an unknown day."
        if self.complete is None:
            by = day(self.latest)
            return f"{self.site} has never been read completely: the figures include what it sent by {by}."
        since = f"{self.site} is not up to date: the figures include its data of {day(self.complete)}"
        return since + (f", and a part of those of {day(self.latest)}." if self.latest > self.complete else ".")


@dataclass(frozen=True)
class Provenance:
    """The facts that a release names.

    Attributes:
        version: of periop.
        released: day of the release.
        lake_sync: number of the newest sync in the lake.
        sites: the data of each site.
        linked: patients of several sites were looked for by their identifiers.
    """

    version: str = ""
    released: str = ""
    lake_sync: int = 0
    sites: tuple[SiteData, ...] = ()
    linked: bool = False

    @property
    def sites_missing(self) -> tuple[str, ...]:
        """Return the names of the sites that are not up to date."""
        return tuple(each.site for each in self.sites if not each.up_to_date)

    @property
    def note(self) -> str | None:
        """Return the sentences about the sites that are not up to date, None where all are."""
        return " ".join(each.sentence() for each in self.sites if not each.up_to_date) or None

    @property
    def patients_of_several_sites(self) -> str | None:
        """Return how a patient who is known at several sites counts, None where the data are of one site."""
        if len([each.site for each in self.sites if each.held]) < 2:
            return None
        if self.linked:
            return "counted once, at the first site that has them enrolled: records are linked by identifiers"
        # Pseudonyms are of a site, and without such identifiers records are joined within a site only (`Patient.link`).
        return "counted once at each site: records are not linked across sites"

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what is known as (name, text) for a person."""
        if self.version:
            yield "periop", f"version {self.version}"
        if self.released:
            yield "Made on", day(self.released)
        if self.lake_sync:
            yield "Lake", f"up to sync {self.lake_sync}"
        for each in self.sites:
            yield f"Data of {each.site}", day(each.complete or each.latest) if each.latest else "none"
        if self.patients_of_several_sites:
            yield "A patient known at several sites", f"is {self.patients_of_several_sites}"


NOT_GIVEN = Provenance()


def day(iso: str) -> str:
    """Return ``2024-12-01`` as ``1 December 2024``.

    >>> day("2024-12-01")
    '1 December 2024'
    """
    found = date.fromisoformat(iso)
    # Not %-d, which Windows does not know.
    return f"{found.day} {found:%B %Y}"
