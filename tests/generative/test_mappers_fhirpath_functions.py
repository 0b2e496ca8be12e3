"""Functions and operators in generated combinations, against fhirpathpy, one patient and one path at a time.

fhirpathpy leaves FHIRPath N1 in some places, which are not generated here and have hand-worked cases in
tests/unit/test_mappers_fhirpath_functions.py:

- `mod` of a negative number has the sign of the divisor (6.6.7: a remainder of truncated division);
- `skip` of a negative number takes from the end (5.3.6: then nothing is skipped);
- `~` of collections heeds their order (6.1.2: it does not matter), and is false of quantities;
- `=` of dates of different precision is false (6.1.1: empty), and of two dateTime elements compares their texts;
- quantities of a resource do not compare (6.2) or add up (6.6);
- `toString()` of true is 'True' (5.5.7), a date that there is not converts (5.5.4), a timezone is written anew;
- a result beyond 64 bits is kept (6.6: empty on overflow);
- `round()` wants a precision (5.7.8: it may be left out) and rounds halves to even (5.7.8: 0.5 gives 1);
- `ln()` of 0 is -Infinity (6.6: empty);
- a text that is worked out and the same text of an element are two in `|`, `union` and `distinct` (5.4.1: by equality),
  and so are two elements of the same text in a union with what is worked out;
- `union` and `combine` on an empty collection give nothing (5.4: the items of the other);
- what is worked out has types of System only, so that `name.count() is integer` is false: here it is of the FHIR type
  too, as docs/fhirpath.md says;
- `$index` inside a nested function, `hasValue`, `getValue`, boundaries, `matchesFull` and `%resource` are not there;
- three-valued logic and comparisons are compared in test_mappers_fhirpath.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fhirpathpy import evaluate
from fhirpathpy.engine import make_param
from fhirpathpy.engine.invocations import invocation_registry
from fhirpathpy.models import models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition, run_view

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


def expected(resource: dict[str, Any], path: str) -> list[Any]:
    """What the evaluator gives, two of its faults mended.

    It leaves `$this` as it was in the argument of the last function, and reads the next argument from there; and
    `take` of no number raises a TypeError (here empty, as where the number of an indexer is: 4.5 of FHIRPath N1).
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fhirpathpy.engine.make_param", scoped)
        patched.setitem(invocation_registry["take"], "nullable", True)
        return [getattr(item, "data", item) for item in evaluate(resource, path, model=models["r4"])]


def scoped(context: dict[str, Any], *others: Any) -> Any:
    """An argument as the evaluator gives it, a value or a function of an item; `$this` is what it was, afterwards."""
    this = {name: value for name, value in context.items() if name == "$this"}

    def restored(found: Any) -> Any:
        context.pop("$this", None)
        context.update(this)
        return found

    found = restored(make_param(context, *others))
    return (lambda item: restored(found(item))) if callable(found) else found


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
        assert values == [plain(expected(patient, path)) for patient in patients], path


NUMBERS = st.decimals(min_value=-(10**6), max_value=10**6, places=3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
def test_numbers_give_what_the_evaluator_gives(engine: DuckDBEngine, pairs: list[tuple[Decimal, Decimal]]) -> None:
    """To 12 significant digits: the evaluator divides as doubles."""
    templates = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / {b}", "{a} div {b}", "{a}.abs()", "{a}.floor()"]
    templates += ["{a}.ceiling()", "{a}.truncate()", "{a} < {b}", "{a} = {b}"]
    paths = [template.format(a=f"({a:.3f})", b=f"({b:.3f})") for a, b in pairs for template in templates]
    patient = {"resourceType": "Patient"}
    for path, values in zip(paths, found(engine, [patient], paths), strict=True):
        wanted = expected(patient, path)
        assert len(values[0]) == len(wanted), path
        for value, want in zip(values[0], wanted, strict=True):
            assert float(value) == pytest.approx(float(want), rel=1e-12, abs=1e-9), path
