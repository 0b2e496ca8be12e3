"""The grid of adverse events: phase, term, worst grade."""

from __future__ import annotations

import pytest

from analytics.errors import AnalysisError
from analytics.estimates.safety import PHASES, slug, terms_of, worst_grades
from mappers.study import load_study
from tests.unit.analytics_tables import cohort

STUDY = load_study("alneo")
PATIENTS = [
    {"USUBJID": "a", "ITTFL": "Y", "SURGFL": "Y", "ADJSAFFL": "Y"},
    {"USUBJID": "b", "ITTFL": "Y", "SURGFL": "Y", "ADJSAFFL": "N"},
    {"USUBJID": "c", "ITTFL": "Y", "SURGFL": "N", "ADJSAFFL": "N"},
    {"USUBJID": "d", "ITTFL": "N", "SURGFL": "N", "ADJSAFFL": "N"},
]


def _event(patient, term, grade, phase="NEOADJUVANT", **fields):
    row = {"USUBJID": patient, "AEDECOD": term, "ATOXGRN": grade, "APERIODC": phase}
    return row | {"TRTEMFL": "Y", "AOCC01FL": "Y"} | fields


def _grid(*events):
    table = cohort(PATIENTS, adae=list(events))
    return {spec.id: set(patients) for spec, patients in worst_grades(table, STUDY) if patients}


def test_each_patient_stands_in_the_cell_of_the_worst_grade():
    assert _grid(_event("a", "Nausea", 2), _event("b", "Nausea", 4), _event("c", "Nausea", None)) == {
        "safety.neoadjuvant.nausea.worst_grade_2": {"a"},
        "safety.neoadjuvant.nausea.worst_grade_4": {"b"},
        "safety.neoadjuvant.nausea.worst_grade_unknown": {"c"},
    }


def test_spellings_of_one_code_are_one_term_under_the_most_frequent_name():
    pneumonitis = {"AEPTCD": "10035742"}
    found = _grid(
        _event("a", "Pneumonitis", 2, **pneumonitis),
        _event("b", "PNEUMONITIS", 2, **pneumonitis),
        _event("c", "Pneumonitis", 2, **pneumonitis),
        _event("a", "Nausea", 1, AEPTCD=None),
    )
    assert found == {
        "safety.neoadjuvant.pneumonitis.worst_grade_2": {"a", "b", "c"},
        "safety.neoadjuvant.nausea.worst_grade_1": {"a"},
    }


def test_only_treatment_emergent_worst_rows_of_the_population_count():
    assert _grid(
        _event("a", "Nausea", 1, TRTEMFL=None),
        _event("a", "Nausea", 1, AOCC01FL=None),
        _event("d", "Nausea", 1),
        _event("b", "Nausea", 1, "ADJUVANT"),
        _event("c", "Nausea", 1, "POST-SURGERY"),
        _event("b", "Nausea", 3, "POST-SURGERY"),
    ) == {"safety.post_surgery.nausea.worst_grade_3": {"b"}}


def test_the_study_s_names_of_terms_are_kept_and_always_listed():
    table = cohort(PATIENTS, adae=[_event("a", "Alanine aminotransferase increased", 1)])
    specs = [spec for spec, _ in worst_grades(table, STUDY)]
    neoadjuvant = {s.breakdown for s in specs if s.id.startswith("safety.neoadjuvant.")}
    assert neoadjuvant == {
        f"safety.neoadjuvant.{term}" for term in ("alt_increased", "ast_increased", "asthenia", "diarrhoea")
    }
    assert {s.population for s in specs if ".adjuvant." in s.id} == {"adjuvant"}
    assert terms_of(STUDY, PHASES[2])["Neutropenia"] == "neutropenia"


def test_an_uncoded_term_has_a_name_and_terms_that_read_alike_stay_apart():
    found = _grid(_event("a", None, 1), _event("b", "Pain, hip", 1), _event("c", "Pain hip", 2))
    assert found == {
        "safety.neoadjuvant.uncoded_term.worst_grade_1": {"a"},
        "safety.neoadjuvant.pain_hip.worst_grade_2": {"c"},
        "safety.neoadjuvant.pain_hip_2.worst_grade_1": {"b"},
    }


@pytest.mark.parametrize(
    ("term", "name"), [("(Pain)", "pain"), ("Œdème ../x", "deme_x"), ("高血圧", "term"), ("A.b", "a_b"), ("", "term")]
)
def test_a_slug_is_safe_as_part_of_an_id(term, name):
    assert slug(term) == name


@pytest.mark.parametrize("grade", [0, 6, 2.5])
def test_a_grade_outside_ctcae_is_an_error(grade):
    with pytest.raises(AnalysisError, match=r"adae\.ATOXGRN: a grade is not 1 to 5"):
        _grid(_event("a", "Nausea", grade))
