"""Functions and operators in generated combinations, against fhirpathpy, one patient and one path at a time.

Where fhirpathpy leaves the specification is in tests/generative/reference_faults.py; what is not mended there is not
generated here and has hand-worked cases in tests/unit/test_mappers_fhirpath_functions.py. Not generated either:

- types of computed values, such as `name.count() is integer`: fhirpathpy knows types of System only, here they are of
  the FHIR type too (docs/fhirpath.md);
- boundaries, `matchesFull` and `%resource`, which fhirpathpy does not have;
- three-valued logic and comparisons, which are compared in test_mappers_fhirpath.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition, run_view
from tests.generative.reference_faults import evaluate

WORDS = st.sampled_from(["a", "ab", "Bab", "c b", "ää"])
NAMES = st.fixed_dictionaries(
    {},
    optional={
        "use": st.sampled_from(["official", "usual"]),
        "family": WORDS,
        "given": st.lists(WORDS, min_size=1, max_size=3),
    },
).filter(bool)
TELECOMS = st.fixed_dictionaries({"rank": st.integers(1, 9)}, optional={"value": WORDS})
PATIENTS = st.fixed_dictionaries(
    {"resourceType": st.just("Patient")},
    optional={
        "active": st.booleans(),
        "name": st.lists(NAMES, min_size=1, max_size=3),
        "telecom": st.lists(TELECOMS, min_size=1, max_size=3),
    },
)

LEAVES = {
    "texts": [
        "name.given",
        "name.family",
        "telecom.value",
        "name.where(use = 'usual').given",
        "(name.given | telecom.value)",
        "('x' | 'y').union(name.family.distinct())",
    ],
    "text": ["name.given.first()", "name.family.last()", "telecom.value[1]", "'ab'", "'Bab'"],
    "whole": ["telecom.rank.first()", "telecom.rank.last()", "name.count()", "2", "7"],
    "truth": ["active", "name.exists()", "(telecom.rank.first() > 4)", "true"],
}
BRANCHES = {
    "texts": [
        "{texts}.distinct()",
        "{texts}.tail()",
        "{texts}.skip(1)",
        "{texts}.take(2)",
        "{texts}.take({whole})",
        "{texts}.intersect({texts})",
        "{texts}.exclude({texts})",
        "('x' | 'y').combine({texts})",
        "{texts}.where($this.length() > 1)",
        "{texts}.where($index > 0)",
        "{texts}.select($this & '-' & $this.upper())",
        "name.select({name_text})",
        "iif({truth}, {texts}, {texts})",
        "{text}.toChars()",
        "{text}.split('b')",
    ],
    "text": [
        "{texts}.first()",
        "{texts}.last()",
        "{texts}[{whole} - 1]",
        "({text} & {text})",
        "({text} + {text})",
        "{text}.upper()",
        "{text}.lower()",
        "{text}.substring(1)",
        "{text}.substring({whole}, 2)",
        "{text}.replace('b', 'xy')",
        "{text}.replaceMatches('[ab]+', '_')",
        "{text}.trim()",
        "{whole}.toString()",
        "iif({truth}, {text}, {text})",
        "iif({truth}, {text})",
    ],
    "whole": [
        "{texts}.count()",
        "{text}.length()",
        "{text}.indexOf('b')",
        "({whole} + {whole})",
        "({whole} - {whole})",
        "({whole} * {whole})",
        "({whole} div 3)",
        "({whole} div 0)",
        "{whole}.abs()",
        "'12'.toInteger()",
        "{text}.toInteger()",
        "iif({truth}, {whole}, {whole})",
    ],
    "truth": [
        "{texts}.isDistinct()",
        "{texts}.subsetOf({texts})",
        "{texts}.supersetOf({texts})",
        "{texts}.all($this.length() > 1)",
        "{texts}.exists($this = 'a')",
        "{texts}.select($this = 'a').allTrue()",
        "{texts}.select($this = 'a').anyFalse()",
        "({text} in {texts})",
        "({texts} contains {text})",
        "({text} ~ {text})",
        "({whole} !~ {whole})",
        "{text}.startsWith('B')",
        "{text}.endsWith('b')",
        "{text}.contains('b')",
        "{text}.matches('^[aB].$')",
        "{text}.convertsToInteger()",
        "({whole} < {whole})",
        "(name = name)",
        "(name[0] = name[1])",
        "(name.count() = name.distinct().count())",
        "{truth}.not()",
    ],
    "name_text": ["given", "family", "given.first() & family", "given.where($this != 'a')", "given.count().toString()"],
}


def expressions(kind: str, depth: int) -> st.SearchStrategy[str]:
    """Paths of a kind, with functions in functions to a depth."""
    leaves = st.sampled_from(LEAVES.get(kind, BRANCHES[kind]))
    if depth == 0 or kind == "name_text":
        return leaves
    return st.one_of(leaves, st.sampled_from(BRANCHES[kind]).flatmap(lambda template: filled(template, depth - 1)))


def filled(template: str, depth: int) -> st.SearchStrategy[str]:
    """A template with a path of the kind in each brace."""
    for kind in ("texts", "text", "whole", "truth", "name_text"):
        if f"{{{kind}}}" in template:
            before, after = template.split(f"{{{kind}}}", 1)
            rest = filled(after, depth)
            return st.tuples(filled(before, depth), expressions(kind, depth), rest).map("".join)
    return st.just(template)


PATHS = st.one_of(*(expressions(kind, 2) for kind in ("texts", "text", "whole", "truth")))


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def found(engine: DuckDBEngine, patients: list[dict[str, Any]], paths: list[str]) -> list[list[list[Any]]]:
    columns = [{"name": f"c{i}", "path": path, "collection": True} for i, path in enumerate(paths)]
    view = ViewDefinition.load({"resource": "Patient", "select": [{"column": columns}]})
    frame = run_view(view, patients, engine)
    return [[plain(items.tolist()) for items in frame[f"c{i}"]] for i in range(len(paths))]


def plain(items: list[Any]) -> list[Any]:
    return [int(item) if isinstance(item, Decimal) and item == int(item) else item for item in items]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patients=st.lists(PATIENTS, min_size=1, max_size=4), paths=st.lists(PATHS, min_size=1, max_size=3))
def test_functions_in_functions_give_what_the_evaluator_gives(
    engine: DuckDBEngine, patients: list[dict[str, Any]], paths: list[str]
) -> None:
    for path, values in zip(paths, found(engine, patients, paths), strict=True):
        assert values == [plain(evaluate(patient, path)) for patient in patients], path


NUMBERS = st.decimals(min_value=-(10**6), max_value=10**6, places=3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
def test_numbers_give_what_the_evaluator_gives(engine: DuckDBEngine, pairs: list[tuple[Decimal, Decimal]]) -> None:
    """To 12 significant digits: the evaluator divides as doubles."""
    templates = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / {b}", "{a} div {b}", "{a}.abs()", "{a}.floor()"]
    templates += ["{a}.ceiling()", "{a}.truncate()", "{a} < {b}", "{a} = {b}"]
    paths = [template.format(a=f"({a:.3f})", b=f"({b:.3f})") for a, b in pairs for template in templates]
    patient = {"resourceType": "Patient"}
    for path, values in zip(paths, found(engine, [patient], paths), strict=True):
        wanted = evaluate(patient, path)
        assert len(values[0]) == len(wanted), path
        for value, want in zip(values[0], wanted, strict=True):
            assert float(value) == pytest.approx(float(want), rel=1e-12, abs=1e-9), path
