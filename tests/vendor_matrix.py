"""The nights of every vendor profile, by search and by export, through `periop sync`: what is in the lake afterwards.

A row is one site over five nights. Each night ends with the lake equal to the server, or with exit code 3 and a
sentence. `python -m tests.vendor_matrix` prints the table; `python -m tests.expectations` writes it into
docs/server-administrator.md.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from connectors.http.retry import Clock
from connectors.lake.current import newest
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Progress, SyncReport
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.presets import presets
from schedules.config.settings import Settings
from schedules.run.pipeline import Pipeline
from schedules.run.sources import source
from tests.vendor_server import GROUP, PROFILES, VendorServer, patient_of, vendor_server

NIGHTS = ("first", "quiet", "changed", "deleted", "interrupted")
KINDS = ("search", "bulk")
TYPES = ("Patient", "Condition", "Observation", "MedicationAdministration", "Medication", "AdverseEvent")
LUNG = {"coding": [{"system": "http://snomed.info/sct", "code": "254637007"}]}
BREAST = {"coding": [{"system": "http://snomed.info/sct", "code": "254837009"}]}
EQUAL, WEEKLY = "equal", "equal after the weekly comparison"
DAY, WEEK = timedelta(days=1), timedelta(days=8)
# What a site says besides `vendor`, `kind` and `url`.
SETTINGS: dict[tuple[str, str], str] = {
    ("epic", "search"): f'group = "{GROUP}"',
    ("oracle_health", "search"): f'group = "{GROUP}"',
    ("epic", "bulk"): f'group = "{GROUP}"',
    ("oracle_health", "bulk"): f'group = "{GROUP}"\nallowed_origins = ["{{storage}}"]',
    ("hapi", "bulk"): f'level = "group"\ngroup = "{GROUP}"',
    ("firely", "bulk"): 'level = "patient"',
    ("azure", "bulk"): 'allowed_origins = ["{storage}"]',
}
DOCS = Path(__file__).parents[1] / "docs"
MATRIX, PRESETS = DOCS / "server-administrator.md", DOCS / "configuration.md"
MATRIX_MARKS = "<!-- matrix: python -m tests.expectations -->", "<!-- end of the matrix -->"
PRESET_MARKS = "<!-- presets: python -m tests.expectations -->", "<!-- end of the presets -->"
Content = dict[tuple[str, str], dict[str, Any]]


@dataclass
class VirtualPipeline(Pipeline):
    """The stages of a run, with the clock of the server: no time passes but there."""

    server: VendorServer | None = None

    def sync_site(
        self,
        settings: Settings,
        site: str,
        *,
        full: bool,
        progress: Callable[[Progress], None],
        accept_loss: bool = False,
    ) -> SyncReport:
        """Synchronise as `Pipeline` does."""
        if self.server is None or site == "other":
            return super().sync_site(settings, site, full=full, progress=progress, accept_loss=accept_loss)
        configured = next(each for each in settings.sites if each.name == site)
        made: Any = source(settings, configured, self.environ)
        made.clock = Clock(lambda: 0.0, lambda: self.now(), self.sleep, lambda: 0.0)
        if hasattr(made, "sleep"):
            made.sleep = self.sleep
        return sync_site(
            made,
            Lake(settings.lake_dir, self.commit_lock),
            site,
            Quarantine(settings.quarantine_dir),
            progress,
            full=full,
            lenient_ids=configured.lenient_ids,
            # A server of a dozen resources loses a large share of them where one patient is gone.
            max_loss=1.0,
        )

    def now(self) -> datetime:
        """Return the time of the server."""
        assert self.server is not None
        return self.server.model.now

    def sleep(self, seconds: float) -> None:
        """Let time pass on the server."""
        assert self.server is not None
        self.server.model.now += timedelta(seconds=seconds)


@dataclass
class Row:
    """One site. cells: what came of each night. said: the messages of the last one."""

    server: VendorServer
    kind: str
    folder: Path
    said: str = ""
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "other").mkdir(parents=True)
        (self.folder / "other" / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "o"}\n')
        extra = SETTINGS.get((self.server.profile.name, self.kind), "")
        (self.folder / "periop.toml").write_text(
            f'[[sites]]\nname = "other"\nkind = "folder"\npath = "other"\ntypes = ["Patient", "Condition"]\n'
            f'[[sites]]\nname = "site"\nkind = "{self.kind}"\nvendor = "{self.server.profile.name}"\n'
            f'url = "{self.server.base}"\n{extra.replace("{storage}", self.server.storage.origin)}\n'
        )

    def sync(self) -> int:
        """Run `periop sync`; return its exit code."""
        out, err = io.StringIO(), io.StringIO()
        pipeline = VirtualPipeline({}, server=self.server)
        session = Session(out, err, {}, lambda: self.server.model.now, given_pipeline=pipeline)
        code = main(["--config", str(self.folder / "periop.toml"), "sync", "--json"], session)
        sites = json.loads(out.getvalue())["sites"] if out.getvalue() else []
        self.said = " ".join(next((each["messages"] for each in sites if each["site"] == "site"), [err.getvalue()]))
        return code

    def lake(self) -> Content:
        """Return the current resources of the lake."""
        lake = Lake(self.folder / "periop-data" / "lake")
        columns = ["site", "resource_type", "id", "version_id", "last_updated", "sync", "deleted", "resource"]
        rows = pa.concat_tables(pa.table(each) for each in lake.rows("site", columns))
        current = newest(ibis.memtable(rows), ("resource_type", "id")).filter(~ibis._["deleted"]).to_pyarrow()
        return {(each["resource_type"], each["id"]): json.loads(each["resource"]) for each in current.to_pylist()}

    def wanted(self) -> Content:
        """Return what the server has of the patients who are asked for."""
        everybody = self.kind == "bulk" and self.server.profile.name in ("smart_reference", "firely")
        return {
            key: body
            for key, body in self.server.model.current().items()
            if everybody or not patient_of(body) or patient_of(body) in self.server.members
        }

    def night(self, change: Callable[[], None]) -> str:
        """Change the server, synchronise a day later, and say what came of it."""
        change()
        self.server.model.now += DAY
        code = self.sync()
        if code == 0 and self.lake() == self.wanted():
            return EQUAL
        if code == 0:
            self.server.model.now += WEEK
            code = self.sync()
            if code == 0 and self.lake() == self.wanted():
                return WEEKLY
        return f"{code}: {self._without_ports(self.said)}"

    def _without_ports(self, text: str) -> str:
        """Return a message with names in the place of addresses, which differ from run to run."""
        text = text.replace(self.server.storage.origin, "https://storage.example")
        return text.replace(self.server.http.origin, "https://fhir.example").replace("\n", " ").strip()

    def interrupted(self) -> str:
        """Break the server in the middle of a sync, and synchronise once more on the next day."""
        put(self.server, "b", 7)
        self.server.model.now += DAY
        self.server.after, self.server.broken = 4, [500] * 1000
        code = self.sync()
        self.server.broken = []
        then = self.night(lambda: None)
        return f"{code}, then {then}" if then in (EQUAL, WEEKLY) else then


def put(server: VendorServer, patient: str, value: int, cancer: dict[str, Any] = LUNG) -> None:
    """Create or change a patient and what is known of him."""
    about = {"subject": {"reference": f"Patient/{patient}"}}
    category = [{"coding": [{"code": "laboratory"}]}]
    server.model.put("Patient", patient, multipleBirthInteger=value)
    server.model.put("Condition", f"c-{patient}", code=cancer, **about)
    for number in (1, 2):
        server.model.put("Observation", f"o-{patient}-{number}", category=category, valueInteger=value, **about)
    drug = {"medicationReference": {"reference": "Medication/drug"}}
    server.model.put("MedicationAdministration", f"m-{patient}", status="completed", **drug, **about)


def filled(server: VendorServer) -> None:
    """Put three patients with lung cancer there, who are the members of the Group, and one with another."""
    server.model.put("Medication", "drug", status="active")
    for patient in "abc":
        put(server, patient, 0)
    put(server, "d", 0, BREAST)
    server.members = ["a", "b", "c"]


def grown(server: VendorServer) -> None:
    """Change a patient, and add one."""
    put(server, "a", 1)
    put(server, "e", 0)
    server.members.append("e")


def shrunk(server: VendorServer) -> None:
    """Delete what is known of a patient but the Condition that makes him one of the cohort."""
    server.model.delete("Observation", "o-c-1")
    server.model.delete("MedicationAdministration", "m-c")


@contextmanager
def row(name: str, kind: str) -> Iterator[Row]:
    """A site of this vendor and kind, before its first night."""
    with tempfile.TemporaryDirectory() as folder, vendor_server(name, TYPES) as server:
        filled(server)
        yield Row(server, kind, Path(folder))


def cells(name: str, kind: str) -> tuple[str, ...]:
    """Return what came of each of the nights."""
    with row(name, kind) as site:
        server = site.server
        return (
            site.night(lambda: None),
            site.night(lambda: None),
            site.night(lambda: grown(server)),
            site.night(lambda: shrunk(server)),
            site.interrupted(),
        )


def table() -> str:
    """Return the matrix as a table of Markdown, and below it the sentences of the nights that end otherwise."""
    rows = [["vendor", "kind", *NIGHTS], ["---"] * (len(NIGHTS) + 2)]
    letters: dict[str, str] = {}
    for name in PROFILES:
        for kind in KINDS:
            shown = []
            for cell in cells(name, kind):
                code, _, sentence = cell.partition(": ")
                letter = letters.setdefault(sentence, "abcdefghijklmnopqrstuvwxyz"[len(letters)]) if sentence else ""
                shown.append(f"exit code {code} [{letter}]" if sentence else cell)
            rows.append([f"`{name}`", f"`{kind}`", *shown])
    sentences = [f"- [{letter}] {sentence}" for sentence, letter in letters.items()]
    return "\n".join([f"| {' | '.join(each)} |" for each in rows] + ["", *sentences])


def documented(text: str, *, shown: bool = False) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the rows of the table in a page, as `cells` gives them, or as they are shown there."""
    letters = dict(re.findall(r"^- \[([a-z])\] (.+)$", text, flags=re.MULTILINE))
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", text, flags=re.MULTILINE)
    found = {(name, kind): tuple(rest.split(" | ")) for name, kind, rest in rows if kind in KINDS}
    if shown:
        return found
    said = re.compile(r"exit code (\d+) \[([a-z])\]")
    return {
        key: tuple(said.sub(lambda m: f"{m[1]}: {letters[m[2]]}", cell) for cell in row) for key, row in found.items()
    }


def defaults() -> str:
    """Return what each preset sets, as a table of Markdown."""
    rows = [["vendor", "kind", "defaults"], ["---"] * 3]
    for name, preset in presets().items():
        for kind in KINDS:
            told = ", ".join(f"`{key} = {_toml(value)}`" for key, value in preset.defaults[kind].items())
            rows.append([f"`{name}`", f"`{kind}`", told or "as without"])
    return "\n".join(f"| {' | '.join(each)} |" for each in rows)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


def written(page: Path, begin: str, end: str, content: str) -> str:
    """Return a page with this content between two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def write() -> None:
    """Write both tables into the documentation."""
    MATRIX.write_text(written(MATRIX, *MATRIX_MARKS, table()), encoding="utf-8")
    PRESETS.write_text(written(PRESETS, *PRESET_MARKS, defaults()), encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
