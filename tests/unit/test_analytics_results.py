"""results.json by its contract, and the CSV beside it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from analytics.analysis import analyse
from analytics.disclosure.control import release
from analytics.results import COLUMNS, as_json, dumps, to_csv
from analytics.spreadsheet import escape_formula
from mappers.study import load_study
from tests.unit.analytics_tables import alneo

STUDY = load_study("alneo")
ALNEO = analyse(alneo(), STUDY)
OPEN = json.loads(dumps(release(ALNEO, 0), 1))
CLOSED = json.loads(dumps(release(ALNEO, 11), 1))


def _by_id(section):
    return {item["id"]: item for item in section}


def test_the_head_names_schema_study_cut_release_and_sites():
    head = {key: OPEN[key] for key in ("schema", "study", "data_cut", "release", "sites", "sites_missing")}
    assert head == {
        "schema": "periop.results/1",
        "study": "alneo",
        "data_cut": "2024-12-01",
        "release": 1,
        "sites": ["demo"],
        "sites_missing": [],
    }
    assert OPEN["study_hash"] == STUDY.hash
    assert OPEN["disclosure"]["min_cell"] == 0


def test_a_proportion_is_written_as_in_the_contract():
    assert _by_id(OPEN["proportions"])["response.mpr"] == {
        "id": "response.mpr",
        "label": "MPR (≤ 10% viable tumour, BICR)",
        "population": "enrolled",
        "x": 15,
        "n": 33,
        "percent": 45.4545,
        "ci": {"level": 0.90, "method": "clopper-pearson", "low": 30.49, "high": 61.06},
        "status": "ok",
    }


def test_a_median_is_written_as_in_the_contract():
    age = _by_id(OPEN["quantiles"])["baseline.age"]
    expected = {"population": "enrolled", "n": 33, "median": 62, "q1": 49, "q3": 74, "unit": "years", "status": "ok"}
    assert expected.items() <= age.items()


def test_a_curve_is_written_as_in_the_contract():
    efs = _by_id(OPEN["survival"])["survival.efs"]
    assert (efs["n"], efs["events"], efs["median"], efs["median_status"]) == (33, 7, None, "not_reached")
    first = efs["curve"][0]
    assert (first["t"], first["at_risk"], first["events"], first["censored"], first["s"]) == (0, 33, 0, 0, 1.0)
    assert sum(point["events"] for point in efs["curve"]) == 7
    assert [mark["t"] for mark in efs["landmarks"]] == [12, 24]


def test_what_is_suppressed_is_null_with_a_reason():
    pcr = _by_id(CLOSED["proportions"])["response.pcr"]
    assert (pcr["x"], pcr["percent"], pcr["ci"], pcr["status"]) == (None, None, None, "suppressed")
    assert pcr["reason"] == "a protected count could be read or derived from it"
    efs = _by_id(CLOSED["survival"])["survival.efs"]
    assert (efs["n"], efs["events"], efs["median"], efs["median_status"]) == (None, None, None, "suppressed")
    assert efs["curve"] == []
    # How many are enrolled is the denominator of all, and stands everywhere.
    assert {step["id"]: step["n"] for step in CLOSED["flow"]}["flow.enrolled"] == 33
    assert {step["n"] for step in CLOSED["flow"] if step["id"] != "flow.enrolled"} == {None}


def test_there_is_no_nan_or_infinity():
    for document in (OPEN, CLOSED):
        json.loads(json.dumps(document), parse_constant=lambda name: pytest.fail(f"{name} in results"))


def test_the_same_input_gives_the_same_bytes():
    assert dumps(release(analyse(alneo(), STUDY), 5), 3) == dumps(release(ALNEO, 5), 3)
    assert dumps(release(ALNEO, 0), 1).endswith(b"}\n")
    assert as_json(release(ALNEO, 0), 2)["release"] == 2


def _rows(released):
    return list(csv.DictReader(io.StringIO(to_csv(released), newline="")))


def test_the_csv_has_one_row_per_number():
    rows = _rows(release(ALNEO, 0))
    assert tuple(rows[0]) == COLUMNS
    mpr = {row["statistic"]: row["value"] for row in rows if row["id"] == "response.mpr"}
    assert mpr == {"x": "15", "n": "33", "percent": "45.4545", "ci_low": "30.49", "ci_high": "61.06"}
    efs = [r for r in rows if r["id"] == "survival.efs" and r["statistic"] == "curve.events"]
    assert sum(int(row["value"]) for row in efs) == 7
    sections = {"proportions", "quantiles", "survival", "flow", "quality", "provenance"}
    assert {row["section"] for row in rows} == sections
    follow_up = [r for r in rows if r["id"] == "survival.follow_up@later_cut" and r["statistic"] == "median"]
    assert [(r["value"], r["unit"]) for r in follow_up] == [("20.3368", "months")]


def test_a_suppressed_number_is_an_empty_cell():
    rows = [row for row in _rows(release(ALNEO, 11)) if row["id"] == "response.pcr"]
    assert {row["statistic"]: row["value"] for row in rows} == {"x": "", "n": "33", "percent": ""}
    assert {row["status"] for row in rows} == {"suppressed"}


@pytest.mark.parametrize("text", ["=1+1", "+1+A1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_formula_is_text(text):
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["Age", "1=1", "a-b", "", "+39 02 1234"])
def test_other_text_is_left_alone(text):
    assert escape_formula(text) == text


def test_no_cell_of_text_from_outside_begins_a_formula():
    evil = '=HYPERLINK("http://x","y")'
    tables = alneo()
    quality = tables.quality.assign(SITEID=evil, DOMAIN=evil, ISSUE=evil)
    adsl = tables.adsl.assign(SCRFRS=evil, NOSURGRS=evil)
    adae = tables.adae.assign(AEDECOD=evil)
    results = analyse(replace(tables, quality=quality, adsl=adsl, adae=adae), STUDY)
    for row in _rows(release(results, 0)):
        assert not any(value.lstrip().startswith(("=", "+", "-", "@")) for value in row.values())
