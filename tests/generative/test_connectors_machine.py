"""A server that changes, forgets searches and fails at random: after the next undisturbed sync the lake is as it is.

The machine mutates a model server, also in the middle of a sync, and synchronises now and then under faults. Whatever
came before, one sync without faults (a reconcile where the server tells no deletions) ends with the lake's current
state equal to the server's cohort, and every report adds up.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectors.errors import AuthenticationError, ServerError
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import OUTCOMES, SyncReport
from connectors.sources.search.dialect import BY_PATIENT, Dialect
from connectors.sources.search.listed import PatientGroup
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from tests.fhir_server import BASE, Features, Key, ModelServer

TYPES = ("Patient", "Condition", "Observation")
patients = st.sampled_from(["a", "b", "c", "d", "e"])
codes = st.sampled_from(["lung", "lung", "breast"])
mutations = st.tuples(
    st.sampled_from(["patient", "condition", "observe", "delete"]),
    patients,
    codes,
    st.integers(0, 3),
    st.integers(0, 9),
)
pauses = st.sampled_from([0, 1, 200, 3_600, 86_400, 5 * 86_400])  # seconds
features = st.builds(
    Features,
    changes=st.sampled_from(["yes", "yes", "yes", "ignored", "refused", "echoed"]),
    history=st.booleans(),
    totals=st.booleans(),
    dates=st.sampled_from([True, True, True, False]),
    elements=st.sampled_from([True, True, False]),
    page=st.sampled_from([1, 2, 5]),
    longest=st.sampled_from([0, 0, 1, 2, 3]),
    first_only=st.sampled_from([False, False, False, True]),
    warnings=st.sampled_from([False, False, True]),
)
# One search for Observations, or two whose results overlap
dialects = st.builds(
    Dialect,
    st.sampled_from([{}, {"Observation": ((("category", "x"),), (("category", "y"),))}]),
    st.sampled_from([BY_PATIENT, frozenset({"Condition", "Observation"})]),
    st.booleans(),
)


class Nights(RuleBasedStateMachine):
    """One site over many nights."""

    lake_type = Lake  # `tests.sequences` has one in memory

    @initialize(features=features, streams=st.sampled_from([1, 3]), dialect=dialects, by_group=st.booleans())
    def begin(self, features: Features, streams: int, dialect: Dialect, by_group: bool) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.server = ModelServer(features, members=self._cohort)
        self.streams, self.dialect = streams, dialect
        self.named = PatientGroup("g") if by_group else None
        self.lake = self.lake_type(self.folder / "lake")
        self.quarantine = Quarantine(self.folder / "quarantine")
        self.reports: list[SyncReport] = []
        for patient in "abcd":
            self._change(("patient", patient, "", 0, 0))
            self._change(("condition", patient, "lung" if patient in "abc" else "breast", 0, 0))
            self._change(("observe", patient, "", 0, 0))
            self._change(("observe", patient, "", 1, 0))
        self._sync(86_400)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- what happens on the server ---

    def _change(self, mutation: tuple[str, str, str, int, int]) -> None:
        what, patient, code, n, value = mutation
        subject = {"reference": f"Patient/{patient}"}
        match what:
            case "patient":
                self.server.put("Patient", patient, multipleBirthInteger=value)
            case "condition":
                self.server.put("Condition", f"c-{patient}", code={"text": code}, subject=subject)
            case "observe":
                category = [{"coding": [{"code": each}]} for each in (("x",), ("y",), ("x", "y"))[n % 3]]
                self.server.put(
                    "Observation", f"o-{patient}-{n}", subject=subject, valueInteger=value, category=category
                )
            case _:
                kind, id_ = [("Patient", patient), ("Condition", f"c-{patient}"), ("Observation", f"o-{patient}-{n}")][
                    value % 3
                ]
                self.server.delete(kind, id_)

    @rule(changes=st.lists(mutations, min_size=1, max_size=8))
    def change(self, changes: list[tuple[str, str, str, int, int]]) -> None:
        for mutation in changes:
            self._change(mutation)

    @rule(mutation=mutations, answers=st.integers(1, 12))
    def change_during_the_next_sync(self, mutation: tuple[str, str, str, int, int], answers: int) -> None:
        self.server.during[answers] = lambda: self._change(mutation)

    @rule(statuses=st.lists(st.sampled_from([429, 500, 503]), max_size=8))
    def fail(self, statuses: list[int]) -> None:
        self.server.faults.extend(statuses)

    @rule(answers=st.integers(1, 8), refused=st.sampled_from([401, 403, 500]))
    def fail_later(self, answers: int, refused: int) -> None:
        self.server.during[answers] = lambda: self.server.faults.extend([refused] * 3)

    @rule(searches=st.integers(1, 6))
    def forget(self, searches: int) -> None:
        self.server.expired = searches

    # --- what periop does ---

    def _sync(self, pause: int, *, full: bool = False) -> SyncReport:
        self.server.now += timedelta(seconds=pause)
        source = SearchSource(
            BASE,
            CohortQuery("Condition", (("code", "lung"),)),
            TYPES,
            limits=SearchLimits(page_size=5, batch=4, streams=self.streams, overlap=2.0),
            transfer=TransferLimits(attempts=3),
            clock=Clock(monotonic=lambda: 0.0, sleep=lambda _: None, random=lambda: 0.0),
            http_transport=self.server,
            stored=lambda: self.lake.patients("site"),
            dialect=self.dialect,
            named=self.named,
        )
        # A server of a dozen resources may lose half of them in a day; that this is doubted is tested by itself.
        report = sync_site(source, self.lake, "site", self.quarantine, full=full, max_loss=1.0)
        self.reports.append(report)
        return report

    @rule(pause=pauses, full=st.sampled_from([False, False, False, True]))
    def disturbed_sync(self, pause: int, full: bool) -> None:
        with suppress(ServerError, AuthenticationError):  # nothing was stored, and the cursor is where it was
            self._sync(pause, full=full)

    @rule(
        changes=st.lists(mutations, min_size=1, max_size=4),
        pause=pauses,
        answers=st.integers(2, 10),
        status=st.sampled_from([403, 410, 500]),
    )
    def broken_night(
        self, changes: list[tuple[str, str, str, int, int]], pause: int, answers: int, status: int
    ) -> None:
        self.change(changes)
        self.fail_later(answers, status)
        self.disturbed_sync(pause, full=False)
        self.server.faults.clear()

    @rule(patient=patients, n=st.integers(0, 3), value=st.integers(0, 9), pause=pauses)
    def leave_and_come_back(self, patient: str, n: int, value: int, pause: int) -> None:
        self._change(("condition", patient, "breast", 0, 0))
        self.undisturbed_sync(pause)
        self._change(("observe", patient, "", n, value))
        self.undisturbed_sync(pause)
        self._change(("condition", patient, "lung", 0, 0))
        self.undisturbed_sync(pause)

    @rule(changes=st.lists(mutations, min_size=1, max_size=8), pause=pauses)
    def changed_night(self, changes: list[tuple[str, str, str, int, int]], pause: int) -> None:
        # Without it few sequences hold a change that is followed by a search for changes and nothing else.
        self.change(changes)
        self.undisturbed_sync(pause)

    @rule(pause=pauses)
    def quiet_sync(self, pause: int) -> None:
        self.undisturbed_sync(pause)

    @rule(pause=pauses)
    def undisturbed_sync(self, pause: int) -> None:
        self.server.faults.clear()
        self.server.expired = 0
        self.server.during.clear()
        tells_deletions = self.server.features.history
        report = self._sync(pause if tells_deletions else 8 * 86_400)
        if any("asks for everything" in note for note in report.notes):
            report = self._sync(1)
        assert report.status == "ok", report.messages
        self._compare()

    def _cohort(self) -> list[str]:
        there = self.server.current().items()
        return sorted({_patient(key, body) for key, body in there if body.get("code") == {"text": "lung"}})

    def _compare(self) -> None:
        there, cohort = self.server.current(), set(self._cohort())
        wanted = {key: body for key, body in there.items() if key[0] in TYPES and _patient(key, body) in cohort}
        held = self._held()
        assert {key: body for key, body in held.items() if _patient(key, body) in cohort} == wanted
        left = [body for key, body in held.items() if key[0] == "Condition" and _patient(key, body) not in cohort]
        assert all(body["code"] != {"text": "lung"} for body in left), "a former patient would still be of the cohort"

    def _held(self) -> dict[Key, dict[str, Any]]:
        newest: dict[Key, tuple[tuple[str, int], str | None]] = {}
        for batch in self.lake.rows("site", ["id", "last_updated", "sync", "deleted", "resource"]):
            for row in batch.to_pylist():
                key, order = (row["resource_type"], row["id"]), (row["last_updated"] or "", row["sync"])
                if key not in newest or order > newest[key][0]:
                    newest[key] = (order, None if row["deleted"] else row["resource"])
        return {key: json.loads(text) for key, (_, text) in newest.items() if text is not None}

    @invariant()
    def every_report_adds_up(self) -> None:
        for report in getattr(self, "reports", []):
            assert report.counts.received == sum(getattr(report.counts, outcome) for outcome in OUTCOMES)


def _patient(key: Key, body: dict[str, Any]) -> str:
    return key[1] if key[0] == "Patient" else str(body["subject"]["reference"]).removeprefix("Patient/")


TestNights = Nights.TestCase
TestNights.settings = settings(
    max_examples=24,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
