"""Read the results.json of each site, and refuse those that cannot be pooled with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analytics.errors import PoolingError
from mappers.study import Study

Json = Mapping[str, Any]
SCHEMA = "periop.results/1"
UNPROTECTED = 1  # min_cell 0 and 1 protect nothing


@dataclass(frozen=True)
class Site:
    """The released results of one site, or of several in one release; `file` is where they were read."""

    name: str
    file: str
    results: Json

    @property
    def min_cell(self) -> int:
        """Return the threshold of its disclosure control."""
        return int(self.results["disclosure"]["min_cell"])

    @property
    def protected(self) -> bool:
        """Return whether small counts were suppressed."""
        return self.min_cell > UNPROTECTED

    def figures(self, section: str) -> dict[str, Json]:
        """Return the figures of a section of results.json by their id."""
        return {figure["id"]: figure for figure in self.results[section]}

    def size(self, population: str) -> int | None:
        """Return the size of a population at the main data cutoff, None where no figure shows it."""
        # An estimate that lacks some patients has a smaller n: the greatest is that of the population.
        shown = [
            p["n"]
            for p in self.results["proportions"]
            if p["population"] == population and p["n"] and "@" not in p["id"]
        ]
        return max(shown, default=None)

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the pool must know of this site."""
        found = [f"{self.name}: {self.results['sites_missing_note']}"] if self.results.get("sites_missing") else []
        if self.protected:
            found.append(f"{self.name}: counts below {self.min_cell} were suppressed")
        return tuple(found)


def read_sites(documents: Sequence[tuple[str, Json]], study: Study) -> tuple[Site, ...]:
    """Return the sites of `documents`, each a file name with the content of a results.json.

    Raises `PoolingError` that names every file which has other rules, another data cutoff, another kind of disclosure
    control or a site that another file has too.
    """
    if len(documents) < 2:
        raise PoolingError("the results.json of at least two sites are needed; give more files")
    sites = tuple(_site(file, content) for file, content in documents)
    # All faults at once: who collects releases by mail does not want to ask each site again and again.
    faults = [fault for site in sites for fault in _faults(site, study)]
    first: dict[str, str] = {}
    for site in sites:
        for name in site.results["sites"]:
            if name in first:
                faults.append(f"{site.file}: has site {name}, as {first[name]} does; its patients would count twice")
            first.setdefault(name, site.file)
    if len({site.protected for site in sites}) > 1:
        # Unprotected counts minus what others release would be as good as published.
        bare = ", ".join(site.file for site in sites if not site.protected)
        faults.append(f"{bare}: without disclosure control, and others have it; pool sites of one kind")
    if faults:
        raise PoolingError("\n".join(faults))
    return sites


def _site(file: str, content: Json) -> Site:
    if content.get("schema") != SCHEMA:
        raise PoolingError(f"{file}: is no results.json of periop (schema {SCHEMA}); give one of a release")
    # It has every count, and would pass for an unprotected release of the same site.
    if "notice" in content:
        raise PoolingError(f"{file}: is internal and not for release; give the results.json of a release")
    return Site(", ".join(content["sites"]) or file, file, content)


def _faults(site: Site, study: Study) -> list[str]:
    wanted = {"study": study.id, "study_hash": study.hash, "data_cut": study.data_cut.isoformat()}
    words = {"study": "study", "study_hash": "rules of the study (study_hash)", "data_cut": "data cutoff"}
    return [
        f"{site.file}: the {words[key]} is {str(site.results.get(key))[:12]} and not {value[:12]}; "
        "make its release anew with the study of the others, or name that study with --study"
        for key, value in wanted.items()
        if site.results.get(key) != value
    ]
