"""Counts that give each other away, on groups small enough to see."""

from __future__ import annotations

from itertools import permutations

from analytics.disclosure.differencing import disclosed_by_differencing
from analytics.estimates.model import Cell

K = 3


def disclosed(cells):
    return disclosed_by_differencing(cells, K)


ALL = Cell("enrolled", frozenset(range(20)))


def _cell(group, *ranges, variable_groups=("course",)):
    return Cell(group, frozenset(i for r in ranges for i in range(*r)), None, frozenset(variable_groups))


def test_a_small_group_or_a_small_rest_gives_itself_away():
    assert disclosed([ALL, _cell("two", (0, 2))]) == {"two"}
    assert disclosed([ALL, _cell("eighteen", (0, 18))]) == {"eighteen"}
    assert disclosed([ALL, _cell("three", (0, 3)), _cell("none"), _cell("all", (0, 20))]) == frozenset()


def test_a_group_within_another_leaves_the_difference():
    """15 resected less 13 with adjuvant treatment are 2."""
    cells = [ALL, _cell("resected", (0, 15)), _cell("adjuvant", (0, 13)), _cell("mpr", (0, 8))]
    assert disclosed(cells) == {"resected", "adjuvant"}
    assert disclosed([ALL, _cell("resected", (0, 15)), _cell("adjuvant", (0, 12))]) == frozenset()


def test_groups_that_exclude_each_other_leave_the_rest():
    """20 less 9 less 10 is 1."""
    assert disclosed([ALL, _cell("a", (0, 9)), _cell("b", (9, 19))]) == {"a", "b"}


def test_groups_that_cover_everyone_have_a_known_overlap():
    """12 + 10 - 20 = 2 are in both."""
    assert disclosed([ALL, _cell("a", (0, 12)), _cell("b", (10, 20))]) == {"a", "b"}


def test_three_counts_give_an_overlap_that_two_do_not():
    """12 events are 7 progressions or 7 deaths: 2 have both, and no two of the three tell."""
    progression, death = _cell("progression", (0, 7)), _cell("death", (5, 12))
    assert disclosed([ALL, progression, death]) == frozenset()
    assert disclosed([ALL, progression, death, _cell("event", (0, 12))]) == {
        "progression",
        "death",
        "event",
    }


def test_three_that_exclude_each_other_leave_the_rest():
    cells = [ALL, _cell("a", (0, 6)), _cell("b", (6, 12)), _cell("c", (12, 18))]
    assert disclosed(cells) == {"a", "b", "c"}


def test_many_cells_within_a_group_leave_its_rest():
    """17 of stage IIIA less three categories of 5 are 2; no two or three of the four tell. One cell more is outside."""
    cells = [_cell("stage", (0, 17)), *(_cell("tn", (start, start + 5)) for start in (0, 5, 10))]
    others = _cell("tn", (17, 20))
    assert disclosed([ALL, *cells, others]) == {"stage", "tn"}
    enough = [_cell("stage", (0, 15)), *cells[1:], _cell("tn", (15, 20))]
    assert disclosed([ALL, *enough]) == frozenset()


def test_many_cells_around_a_group_leave_what_is_not_in_it():
    """Three categories of 5 less the 13 who had the operation are 2, beside a category of others."""
    cells = [_cell("operated", (0, 13)), *(_cell("tn", (start, start + 5)) for start in (0, 5, 10))]
    assert disclosed([ALL, *cells]) == {"operated", "tn"}


def test_what_only_happens_to_exclude_each_other_is_not_known_to_the_reader():
    cells = [_cell("a", (0, 9), variable_groups=("sex",)), _cell("b", (9, 19), variable_groups=("course",))]
    assert disclosed([ALL, *cells]) == frozenset()


def test_what_is_not_listed_is_tied_to_everything():
    cells = [_cell("a", (0, 9), variable_groups=()), _cell("b", (9, 19), variable_groups=("course",))]
    assert disclosed([ALL, *cells]) == {"a", "b"}


def test_a_count_under_two_names_suppresses_both():
    cells = [ALL, _cell("a", (0, 9)), _cell("again", (0, 9)), _cell("b", (9, 19))]
    assert disclosed(cells) == {"a", "again", "b"}


def test_a_later_cut_with_more_patients_gives_away_the_new_ones():
    later = Cell("alive@later", frozenset(range(22)))
    assert disclosed([ALL, later]) == {"alive@later"}


def test_an_empty_group_discloses_nothing_itself():
    assert disclosed([ALL, _cell("none"), _cell("a", (0, 9)), _cell("b", (9, 19))]) == {"a", "b"}


def test_every_pair_that_discloses_is_found():
    course = [_cell("a", (0, 9)), _cell("b", (9, 19))]
    sex = [_cell("f", (0, 8), variable_groups=("sex",)), _cell("m", (8, 18), variable_groups=("sex",))]
    assert disclosed([ALL, *course, *sex]) == {"a", "b", "f", "m"}


def test_every_three_that_disclose_are_found_behind_others_that_do_not():
    sex = _cell("sex", (0, 10), variable_groups=("sex",))
    course = [_cell("progression", (0, 7)), _cell("death", (5, 12)), _cell("event", (0, 12))]
    spans = {"a": (0, 6), "b": (6, 12), "c": (12, 19)}
    safety = [_cell(name, span, variable_groups=("safety",)) for name, span in spans.items()]
    assert disclosed([ALL, sex, *course, *safety]) == {"progression", "death", "event", "a", "b", "c"}


def test_three_are_found_with_another_group_between_them():
    """18 of 20 are in a, b or c; three of each and eleven others are not in the group between."""
    between = _cell("between", (0, 3), (6, 9), (12, 15))
    cells = [ALL, _cell("a", (0, 6)), _cell("b", (6, 12)), between, _cell("c", (12, 18))]
    assert disclosed(cells) == {"a", "b", "c"}


def test_three_must_all_be_linked_to_each_other():
    a, b, c = (("course",), ("course", "stage"), ("stage",))
    spans = ((0, 6), (6, 12), (12, 18))
    for groups in permutations((a, b, c)):
        cells = [_cell(str(i), span, variable_groups=g) for i, (span, g) in enumerate(zip(spans, groups, strict=True))]
        assert disclosed([ALL, *cells]) == frozenset()


def test_three_of_which_two_overlap_do_not_tell_the_rest():
    """7 + 7 + 4 are 18 of 20, but two are counted twice: four are in none, and no count tells it."""
    cells = (_cell("a", (0, 7)), _cell("b", (5, 12)), _cell("c", (12, 16)))
    for order in permutations(cells):
        assert disclosed([ALL, *order]) == frozenset()


def test_the_number_of_the_enrolled_is_never_suppressed_although_it_helps_to_disclose():
    """26 patients at a later data cutoff less 20 enrolled are 6; with 18 others that leaves 2."""
    later, others = Cell("later", frozenset(range(26))), _cell("others", (0, 18))
    assert disclosed([ALL, later, others]) == {"others"}
