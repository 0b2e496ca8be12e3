"""The built-in cohort through the whole pipeline, patient by patient against the answer key made from the CSV."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.study import load_study
from tests.cohorts import ALNEO, ANSWERS, Ran, alneo_at, pseudonym, run_folder

KEY: dict[str, Any] = json.loads(ANSWERS.read_bytes())
LATER = date(2025, 5, 5)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_folder(tmp_path_factory.mktemp("alneo"), ALNEO)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_folder(tmp_path_factory.mktemp("later"), ALNEO, alneo_at(LATER))


def by_patient(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    names = {f"alneo-milan-{pseudonym(p['id'])}": p["id"] for p in KEY["patients"]}
    return {names[row["USUBJID"]]: row for row in rows if row["USUBJID"] in names}


def plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def test_everything_received_is_stored(ran: Ran) -> None:
    lines = sum(len(file.read_text().splitlines()) for file in ALNEO.glob("*.ndjson"))
    assert ran.sync.counts.received == ran.sync.counts.stored == lines


def test_exactly_the_33_are_enrolled(ran: Ran) -> None:
    adsl = ran.table("adsl")
    enrolled = set(adsl.loc[adsl["ITTFL"] == "Y", "SUBJID"])
    assert enrolled == {pseudonym(patient["id"]) for patient in KEY["patients"]}


@pytest.mark.parametrize("patient", KEY["patients"], ids=lambda p: p["id"])
def test_adsl(ran: Ran, patient: dict[str, Any]) -> None:
    row = by_patient(ran.table("adsl"))[patient["id"]]
    expected = dict(patient["ADSL"])
    if expected["NOSURGRS"] is None and expected["SURGFL"] == "N":
        expected["NOSURGRS"] = "OTHER"  # a reason that the hospital gave in words only
    assert {name: plain(row[name]) for name in expected} == expected


@pytest.mark.parametrize("patient", KEY["patients"], ids=lambda p: p["id"])
def test_adrs(ran: Ran, patient: dict[str, Any]) -> None:
    adrs = ran.table("adrs")
    rows = adrs[(adrs["USUBJID"] == f"alneo-milan-{pseudonym(patient['id'])}") & (adrs["ANL01FL"] == "Y")]
    assert not rows.duplicated("PARAMCD").any()
    found = {row["PARAMCD"]: row["AVAL"] if row["PARAMCD"] == "PVTPCT" else row["AVALC"] for _, row in rows.iterrows()}
    assert found == {name: value for name, value in patient["ADRS"].items() if value is not None}


@pytest.mark.parametrize("patient", KEY["patients"], ids=lambda p: p["id"])
@pytest.mark.parametrize("cut", ["first_cut", "later_cut"])
@pytest.mark.parametrize("paramcd", ["EFS", "OS"])
def test_adtte(ran: Ran, patient: dict[str, Any], cut: str, paramcd: str) -> None:
    adtte = ran.table("adtte", None if cut == "first_cut" else "later_cut")
    row = by_patient(adtte[adtte["PARAMCD"] == paramcd])[patient["id"]]
    expected = patient[cut][paramcd]
    assert (plain(row["ADT"]), row["CNSR"]) == (expected["ADT"], expected["CNSR"])
    assert row["AVAL"] == pytest.approx(expected["AVAL"], abs=5e-5)
    if expected["CNSR"] == 0:
        assert row["EVNTDESC"] == expected["EVNTDESC"]


@pytest.mark.parametrize("patient", KEY["patients"], ids=lambda p: p["id"])
def test_adae(ran: Ran, patient: dict[str, Any]) -> None:
    adae = ran.table("adae")
    mine = adae["USUBJID"] == f"alneo-milan-{pseudonym(patient['id'])}"
    worst = adae[mine & (adae["AOCC01FL"] == "Y") & (adae["APERIODC"] != "POST-SURGERY")]
    found = sorted((r["APERIODC"], r["AEDECOD"] or "", int(r["ATOXGRN"])) for _, r in worst.iterrows())
    expected = sorted((e["APERIODC"], e["AEDECOD"] or "", e["ATOXGRN"]) for e in patient["ADAE"])
    assert found == expected


@pytest.mark.parametrize("figure", KEY["proportions"], ids=lambda p: p["id"])
def test_published_proportions(ran: Ran, figure: dict[str, Any]) -> None:
    ours = {p.id: p for p in ran.released.proportions}[figure["id"]]
    assert (ours.x, ours.n, ours.population) == (figure["x"], figure["n"], figure["population"])


@pytest.mark.parametrize("figure", KEY["quantiles"], ids=lambda q: q["id"])
def test_published_quantiles(ran: Ran, figure: dict[str, Any]) -> None:
    ours = {q.id: q for q in ran.released.quantiles}[figure["id"]]
    assert (ours.n, ours.unit) == (figure["n"], figure["unit"])
    for name in ("median", "q1", "q3"):
        if figure[name] is not None:
            assert getattr(ours, name) == pytest.approx(figure[name], abs=5e-5)


@pytest.mark.parametrize("name", ["survival.efs", "survival.os"])
def test_survival(ran: Ran, later: Ran, name: str) -> None:
    for which, cut in ((ran, "first_cut"), (later, "later_cut")):
        expected = next(s for s in KEY["survival"] if s["id"] == name and s["cut"] == cut)
        ours = {s.id: s for s in which.released.survival}[name]
        assert (ours.n, ours.events, ours.median_status) == (
            expected["n"],
            expected["events"],
            expected["median"],
        )


def test_the_later_cut_has_30_of_33_alive(later: Ran) -> None:
    alive = {p.id: p for p in later.released.proportions}["survival.alive"]
    assert (alive.x, alive.n) == (30, 33)


@pytest.mark.parametrize("cut", [None, "later_cut"])
def test_nothing_dated_after_a_cut_is_used(ran: Ran, cut: str | None) -> None:
    latest = load_study("alneo").data_cut if cut is None else LATER
    for name in ("adsl", "adrs", "adtte", "adae"):
        frame = ran.table(name, cut)
        for column in frame.columns:
            days = [value for value in frame[column] if isinstance(value, date)]
            assert all(value <= latest for value in days), (name, column)


@pytest.mark.parametrize("name", ["adsl", "adrs", "adtte", "adae"])
def test_every_row_is_traceable_and_names_no_id(ran: Ran, name: str) -> None:
    frame = ran.table(name)
    known = {
        f"{resource['resourceType']}/{pseudonym(resource['id'])}"
        for file in ALNEO.glob("*.ndjson")
        for resource in map(json.loads, file.read_text().splitlines())
    }
    for references in frame["SRCREF"]:
        supported = [reference.split(" ") for reference in references]
        assert {variable for variable, _ in supported} <= set(frame.columns)
        assert {source for _, source in supported} <= known
    assert not any("SYN-" in str(value) for column in frame.columns for value in frame[column])
    if name == "adsl":
        assert all(len(refs) >= 8 for refs in frame.loc[frame["ITTFL"] == "Y", "SRCREF"])


def test_a_second_run_after_no_change_stores_nothing_and_gives_the_same(ran: Ran, tmp_path: Path) -> None:
    first = run_folder(tmp_path, ALNEO)
    tables = {name: first.table(name) for name in ("adsl", "adrs", "adtte", "adae", "quality")}
    second = run_folder(tmp_path, ALNEO)
    assert (second.sync.counts.stored, second.sync.counts.identical) == (0, first.sync.counts.stored)
    for name, before in tables.items():
        pd.testing.assert_frame_equal(second.table(name), before)
    assert second.released.proportions == first.released.proportions
