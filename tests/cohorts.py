"""Runs the pipeline on a folder of FHIR files, for tests that look at the cohort tables and the results."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from analytics.disclosure.control import Released
from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from connectors.report import SyncReport
from connectors.sandbox.server import Loaded, Sandbox
from mappers.study import Study, load_study
from schedules.cli.sandbox import COHORT, read_cohort
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite, Site
from schedules.run.pipeline import Pipeline
from tests.compiled import compiled_once

ALNEO = Path(__file__).resolve().parents[1] / "fixtures" / "alneo"
ANSWERS = ALNEO.parent / "alneo_answers.json"
KEY = "0123456789abcdef" * 4
TABLES = ("adsl", "adrs", "adtte", "adae", "quality")


def pseudonym(identifier: str) -> str:
    """What the cohort tables call the resource `identifier`: HMAC-SHA-256 by the standard library, 32 hex digits."""
    return hmac.new(bytes.fromhex(KEY), identifier.encode(), hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True)
class Ran:
    """What one run left behind."""

    settings: Settings
    sync: SyncReport
    released: Released

    def table(self, name: str, cut: str | None = None) -> pd.DataFrame:
        folder = self.settings.cohort_dir if cut is None else self.settings.cohort_dir / "cuts" / cut
        return pd.read_parquet(folder / f"{name}.parquet")

    def quality(self) -> dict[tuple[str, str], int]:
        frame = self.table("quality")
        return {(d, i): int(n) for d, i, n in zip(frame["DOMAIN"], frame["ISSUE"], frame["COUNT"], strict=True)}


def alneo_at(cut: date) -> Study:
    """The shipped study with another data cut."""
    return load_study("alneo").model_copy(update={"data_cut": cut})


def mapped(settings: Settings, study: Study) -> SyncReport:
    """Sync all sites and map them; return the report of the last sync."""
    pipeline = Pipeline({"PERIOP_PSEUDONYM_KEY": KEY})
    for site in settings.sites:
        report = pipeline.sync_site(settings, site.name, full=False, progress=lambda _: None)
    with compiled_once(settings.data_dir):
        pipeline.map_lake(settings, study, progress=lambda _: None)
    return report


def analyzed(settings: Settings, study: Study, min_cell: int = 0) -> Released:
    """Return the figures of the cohort tables in place."""
    return Pipeline({"PERIOP_PSEUDONYM_KEY": KEY}).analyze(settings.cohort_dir, study, min_cell)


def run(data_dir: Path, site: Site, study: Study | None = None, min_cell: int = 0) -> Ran:
    """sync, map and analyze one site."""
    settings, study = Settings(data_dir=data_dir, sites=(site,)), study or load_study("alneo")
    report = mapped(settings, study)
    return Ran(settings, report, analyzed(settings, study, min_cell))


def run_folder(data_dir: Path, folder: Path, study: Study | None = None, name: str = "milan") -> Ran:
    """`run` on a folder site."""
    return run(data_dir, FolderSite(name=name, kind="folder", path=folder), study)


def put_alneo(base: str) -> Loaded:
    """Put the built-in cohort on the server at `base`, as `periop sandbox load` does."""
    with FhirClient(base, NoAuth()) as client:
        return Sandbox(client, COHORT).load(read_cohort(ALNEO))
