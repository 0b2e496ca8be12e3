"""Reading cohort tables, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pandas as pd
import pytest
from pydantic import ValidationError

from analytics.analysis import analyse, load_cohort
from analytics.errors import AnalysisError
from analytics.estimates.cohort_tables import Cohort, check
from analytics.provenance import Provenance, SiteData
from mappers.study import Study, load_study
from tests.unit.analytics_tables import alneo

STUDY = load_study("alneo")
NAMES = ("adsl", "adrs", "adtte", "adae", "quality")


def _write(cohort: Cohort, directory, kind):
    directory.mkdir(parents=True)
    for name in NAMES:
        table = cohort.table(name)
        dates = {c: table[c].dt.date for c in table.columns if c.endswith("DT")}
        table = table.assign(EXTRA="ignored", **dates)
        if kind == "csv":
            table.to_csv(directory / f"{name}.csv", index=False)
        else:
            table.to_parquet(directory / f"{name}.parquet")
    for name, cut in cohort.other_cutoffs.items():
        _write(cut, directory / "cuts" / name, kind)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_read_back_give_the_same_results(tmp_path, kind):
    _write(alneo(), tmp_path / "cohort", kind)
    loaded = load_cohort(tmp_path / "cohort")
    assert set(loaded.other_cutoffs) == {"later_cut"}
    assert analyse(loaded, STUDY) == analyse(alneo(), STUDY)


def test_the_order_of_the_rows_changes_nothing():
    cohort = alneo()
    turned = replace(cohort, **{name: cohort.table(name).iloc[::-1] for name in NAMES})
    assert analyse(turned, STUDY) == analyse(cohort, STUDY)


def test_text_that_looks_like_a_blank_stays_text(tmp_path):
    """pandas would read "NA" and "None" as missing."""
    _write(alneo(), tmp_path / "cohort", "csv")
    file = tmp_path / "cohort" / "adsl.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("patient_refusal", "NA"), encoding="utf-8")
    assert "NA" in set(load_cohort(tmp_path / "cohort").adsl["NOSURGRS"])


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(AnalysisError, match=r"^adsl: adsl\.parquet or adsl\.csv is not in the cohort folder"):
        load_cohort(tmp_path)


def test_the_quality_list_may_be_absent(tmp_path):
    _write(replace(alneo(), other_cutoffs={}), tmp_path / "cohort", "csv")
    (tmp_path / "cohort" / "quality.csv").unlink()
    assert analyse(load_cohort(tmp_path / "cohort"), STUDY).quality == ()


@pytest.mark.parametrize("content", [b"PAR1 not parquet", b""])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "adsl.parquet").write_bytes(content)
    with pytest.raises(AnalysisError, match=r"^adsl: the file cannot be read"):
        load_cohort(tmp_path)


@pytest.mark.parametrize(("column", "value"), [("SURGDT", "13.01.2024"), ("SURGDT", "9999-12-31"), ("AGE", "old")])
def test_a_value_of_the_wrong_kind_is_named_but_not_shown(tmp_path, column, value):
    _write(replace(alneo(), other_cutoffs={}), tmp_path / "cohort", "csv")
    file = tmp_path / "cohort" / "adsl.csv"
    table = pd.read_csv(file, dtype=str)
    table[column] = value
    table.to_csv(file, index=False)
    with pytest.raises(AnalysisError, match=rf"^adsl\.{column}: a value is not a") as caught:
        load_cohort(tmp_path / "cohort")
    assert value not in str(caught.value)


def _changed(name, change):
    cohort = alneo()
    return replace(cohort, **{name: change(cohort.table(name).copy())})


def _twice(table):
    return pd.concat([table, table.iloc[:1]])


def _set(column, value):
    def change(table):
        return table.assign(**{column: [value, *table[column].iloc[1:]]})

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adsl", _twice, "adsl.USUBJID: 1 rows repeat a patient"),
        ("adsl", _set("USUBJID", None), "adsl.USUBJID: 1 rows have none"),
        ("adae", _set("USUBJID", "SYN-99"), "adae.USUBJID: 1 rows belong to no patient of adsl"),
        ("adrs", _set("USUBJID", "SYN-99"), "adrs.USUBJID: 1 rows belong to no patient of adsl"),
        ("adtte", _twice, "adtte.PARAMCD: 1 rows repeat a patient and parameter"),
        ("adtte", _set("AVAL", -1.0), "adtte.AVAL: a time is negative"),
        ("adtte", _set("AVAL", float("inf")), "adtte.AVAL: a time is negative or longer"),
        ("adtte", _set("CNSR", None), "adtte.CNSR: it is blank where AVAL is given"),
        ("adtte", _set("CNSR", -1), "adtte.CNSR: a value is negative or no whole number"),
        ("adtte", _set("CNSR", 0.5), "adtte.CNSR: a value is negative or no whole"),
        ("adtte", lambda t: t.assign(AVALU="FORTNIGHTS"), "adtte.AVALU: 66 rows have a unit that is not known"),
        ("adsl", _set("AGE", -5), "adsl.AGE: an age is negative or above 120 years"),
        ("adsl", _set("ITTFL", "1"), "adsl.ITTFL: a value is neither Y nor N"),
        ("adsl", lambda t: t.assign(SURGFL=True), "adsl.SURGFL: a value is neither Y nor N"),
        ("adtte", lambda t: t.drop(columns="CNSR"), "adtte.CNSR: this column is missing"),
        ("adsl", lambda t: t.drop(columns="ITTFL"), "adsl.ITTFL: this column is missing"),
        ("adsl", lambda t: t.drop(columns="SURGTYPE"), "adsl.SURGTYPE: this column is missing"),
        ("adsl", _set("SURGDT", pd.Timestamp("2024-12-02")), "adsl.SURGDT: 1 rows are dated after"),
        ("adae", _set("ASTDT", pd.Timestamp("2025-01-01")), "adae.ASTDT: 1 rows are dated after"),
        ("adsl", _set("DCUTDT", pd.Timestamp("2024-11-30")), "adsl.DCUTDT: the tables were not made at"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(name, change, message):
    with pytest.raises(AnalysisError) as caught:
        analyse(_changed(name, change), STUDY)
    assert str(caught.value).startswith(message)
    assert "; " in str(caught.value)
    assert "SYN-" not in str(caught.value)


def test_a_further_cut_is_checked_at_its_own_date():
    cohort = alneo()
    check(cohort, STUDY)
    with pytest.raises(AnalysisError, match=r"DCUTDT: the tables were not made at the study's data cutoff 2025-05-05"):
        check(replace(cohort, other_cutoffs={"later_cut": replace(cohort, other_cutoffs={})}), STUDY)


def test_without_tables_at_a_cut_its_estimates_say_so():
    results = analyse(replace(alneo(), other_cutoffs={}), STUDY)
    later = next(p for p in results.proportions if p.id == "survival.alive@later_cut")
    assert (later.x, later.status, later.reason) == (None, "not_evaluable", "no tables at data cutoff later_cut")


def test_the_later_cut_as_the_study_s_own_gives_thirty_alive():
    later = STUDY.model_copy(update={"data_cut": date(2025, 5, 5), "cuts": ()})
    results = analyse(alneo().other_cutoffs["later_cut"], later)
    alive = next(p for p in results.proportions if p.id == "survival.alive")
    assert (alive.x, alive.n, results.data_cutoff) == (30, 33, "2025-05-05")


def test_an_empty_cohort_is_analysed():
    cohort = alneo()
    empty = Cohort(**{name: cohort.table(name).iloc[:0] for name in NAMES})
    results = analyse(empty, STUDY)
    assert {e.status for e in (*results.proportions, *results.quantiles, *results.survival)} == {"not_evaluable"}
    assert results.population_sizes == {"enrolled": 0, "resected": 0, "adjuvant": 0}


def test_sites_are_those_of_the_patients_and_those_that_are_missing():
    turin = SiteData("turin", None, None, up_to_date=False, held=False)
    results = analyse(alneo(), STUDY, Provenance(sites=(turin,)))
    assert (results.sites, results.provenance.sites_missing) == (("demo",), ("turin",))


def test_no_cell_carries_an_identifier():
    assert all(isinstance(p, int) for cell in analyse(alneo(), STUDY).cells for p in [cell.patients])


def test_a_parameter_that_nothing_has_is_named():
    (first, *rest) = STUDY.survival
    study = STUDY.model_copy(update={"survival": (first.model_copy(update={"paramcd": "OSS"}), *rest)})
    with pytest.raises(AnalysisError, match=r"^adtte\.PARAMCD: estimate \S+ asks for OSS, which is not there"):
        analyse(alneo(), study)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"survival": [{"id": "s", "label": "s", "paramcd": "OS", "landmarks": [-3]}]}, "greater than 0"),
        ({"survival": [{"id": "baseline.age", "label": "s", "paramcd": "OS"}]}, "several estimates have the id"),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused(changed, message):
    with pytest.raises(ValidationError, match=message):
        Study.model_validate({**STUDY.model_dump(), **changed})
