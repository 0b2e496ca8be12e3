"""Which variables a reader can link: by their names, and by what a proportion or a quantity counts."""

from __future__ import annotations

import pytest

from analytics.disclosure.variable_groups import COURSE, EVENTS, UNKNOWN, belongs, of_names, of_proportion, of_quantile
from mappers.study import ProportionSpec, QuantileSpec, Where


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["SEX"], {"sex"}),
        (["AGE"], {"age"}),
        (["SMKSTAT"], {"smoking"}),
        (["ECOGBL"], {"ecog"}),
        (["STAGEBL", "TSTGBL", "NSTGBL"], {"stage"}),
        (["RSP"], {"imaging"}),
        (["NDOWN"], {"course", "stage"}),
        (["SEX", "SURGFL"], {"sex", "course"}),
        (["DTHFL"], {"course", "events"}),
        (["SEX", "HEIGHT"], UNKNOWN),
        (["HEIGHT"], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_names_together_are_unknown_if_one_is(names, groups):
    assert of_names(names) == groups


def test_what_is_unknown_is_linked_to_everything():
    assert not belongs(frozenset({"sex"}), "course")
    assert belongs(EVENTS, "course")
    assert belongs(UNKNOWN, "sex")


def test_the_figures_of_a_phase_are_linked_to_each_of_its_terms_and_two_terms_are_not_linked():
    phase, term = frozenset({"safety ADJUVANT"}), frozenset({"safety ADJUVANT/Asthenia"})
    assert belongs(phase, "safety ADJUVANT/Asthenia")
    assert not belongs(term, "safety ADJUVANT")
    assert not belongs(term, "safety ADJUVANT/Asthenia of the legs")


def _proportion(dataset, **values):
    where = tuple(Where(column=column, **condition) for column, condition in values.items())
    return of_proportion(ProportionSpec(id="x", label="x", dataset=dataset, where=where))


def _is(*values):
    return {"is_in": values}


def test_a_proportion_is_of_its_columns_its_parameter_or_its_phase():
    assert _proportion("adsl", SEX=_is("F"), STAGEBL=_is("IIIA")) == {"sex", "stage"}
    assert _proportion("adrs", PARAMCD=_is("RSP"), AVALC=_is("Y")) == {"imaging"}
    assert _proportion("adtte", PARAMCD=_is("OS"), CNSR={"maximum": 0}) == EVENTS
    assert _proportion("adrs", AVALC=_is("Y")) == UNKNOWN


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ({"APERIODC": _is("ADJUVANT")}, {"safety ADJUVANT"}),
        ({"APERIODC": _is("ADJUVANT", "NEOADJUVANT")}, {"safety ADJUVANT", "safety NEOADJUVANT"}),
        ({"APERIODC": _is("ADJUVANT"), "ATOXGRN": {"minimum": 3}}, {"safety ADJUVANT"}),
        ({"APERIODC": _is("ADJUVANT"), "ATOXGRN": {"minimum": 5}}, {"safety ADJUVANT", "course", "events"}),
        ({"APERIODC": _is("ADJUVANT"), "ATOXGRN": _is(5)}, {"safety ADJUVANT", "course", "events"}),
        ({"APERIODC": _is("ADJUVANT"), "ATOXGRN": _is(4, 5)}, {"safety ADJUVANT"}),
        ({"APERIODC": _is("ADJUVANT"), "AGE": {"minimum": 5}}, {"safety ADJUVANT"}),
        ({"APERIODC": _is("ADJUVANT"), "AEDECOD": _is("Rash")}, {"safety ADJUVANT/Rash"}),
        ({"ATOXGRN": {"minimum": 5}}, UNKNOWN),
    ],
)
def test_adverse_events_are_linked_within_a_phase_and_fatal_ones_to_the_deaths(values, groups):
    assert _proportion("adae", **values) == groups


def _quantile(**fields):
    return of_quantile(QuantileSpec(id="x", label="x", **fields))


def test_who_has_a_time_to_an_event_tells_nothing_of_the_event():
    assert _quantile(variable="AGE", unit="years") == {"age"}
    assert _quantile(start="SURGDT", end="AP02SDT", unit="weeks") == COURSE
    assert _quantile(paramcd="OS", method="reverse_km", unit="months") == COURSE
    assert _quantile(start="TRTSDT", end="HEIGHT", unit="weeks") == UNKNOWN
