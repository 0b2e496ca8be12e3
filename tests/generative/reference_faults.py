"""fhirpathpy, the slow evaluator that generated paths are compared with, and where it leaves the specification.

Every known fault is one entry of FAULTS: a path, what fhirpathpy answers, what is right, and the paragraph that says so
(numbers without a name are those of FHIRPath N1). tests/generative/test_reference_faults.py holds all three, so that an
entry whose fault a new version repairs fails there and can be deleted. Faults with `mended` are repaired by `evaluate`,
because generated paths meet them; the others are not generated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import fhirpathpy
import pytest
from fhirpathpy.engine import make_param
from fhirpathpy.engine.invocations import invocation_registry
from fhirpathpy.engine.invocations.equality import equality
from fhirpathpy.models import models

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "active": True,
    "name": [{"family": "ab", "given": ["it's", "b"]}],
    "contact": [{"name": {"given": ["it's", "a"]}}],
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "effectiveDateTime": "2024-01-01T10:00:00Z",
    "issued": "2024-01-01T11:00:00+01:00",
    "valueQuantity": {"value": 5, "unit": "mg", "code": "mg", "system": "http://unitsofmeasure.org"},
}


@dataclass(frozen=True)
class Fault:
    """A path on which fhirpathpy is wrong. `answer` None: it raises an error."""

    path: str
    answer: list[Any] | None
    right: list[Any]
    paragraph: str
    mended: bool = False
    resource: dict[str, Any] = field(default_factory=lambda: PATIENT)


FAULTS = (
    Fault(
        "name.given = contact.name.given",
        [True],
        [False],
        "6.1.1: collections are equal where all items are; fhirpathpy compares the first two alone",
        mended=True,
    ),
    Fault(
        "name.given != contact.name.given",
        [False],
        [True],
        "6.1.3: the inverse of equals",
        mended=True,
    ),
    Fault(
        "('a' | 'b').take(name.suffix.first().length())",
        None,
        [],
        "4.4.1: an argument without an item gives an empty result",
        mended=True,
    ),
    Fault(
        "name.select(given.where($this = 'b').first().replace(given.where($this = 'b').first(), given.first()))",
        [],
        ["it's"],
        "5: an argument is read from the item, whatever argument stands before it",
        mended=True,
    ),
    Fault("(-7) mod 3", [2], [-1], "6.6.7: the remainder of a division that is cut towards 0"),
    Fault("('a' | 'b').skip(-1)", ["b"], ["a", "b"], "5.3.6: a negative number skips nothing"),
    Fault("('a' | 'b') ~ ('b' | 'a')", [False], [True], "6.1.2: the order of the items does not matter"),
    Fault("active.toString()", ["True"], ["true"], "5.5.7: the representation of a boolean is true or false"),
    Fault("'2024-02-31'.convertsToDate()", [True], [False], "5.5.4: only a date converts"),
    Fault("9223372036854775807 + 1", [9223372036854775808], [], "6.6: a result that does not fit is empty"),
    Fault("(2.5).round(0)", [Decimal(2)], [Decimal(3)], "5.7.8: half away from zero"),
    Fault("(2.5).round()", None, [Decimal(3)], "5.7.8: the precision may be left out"),
    Fault("0.ln()", [Decimal("-Infinity")], [], "5.7: a result that cannot be represented is empty"),
    Fault("('a' + 'b') | name.family", ["ab", "ab"], ["ab"], "5.4.1: a union holds equal items once"),
    Fault(
        "effective.ofType(dateTime) = issued",
        [False],
        [True],
        "6.1.1: times with zones are compared as instants",
        resource=OBSERVATION,
    ),
    Fault(
        "value.ofType(Quantity) > 3 'mg'",
        None,
        [True],
        "6.2.1, and Using FHIRPath with FHIR: a Quantity of a resource compares",
        resource=OBSERVATION,
    ),
    Fault("4 'mg' + 3 'mg' = 7 'mg'", None, [True], "6.6.3: quantities of one unit add up"),
    Fault(
        "name.where(given.where($index = 1).exists() and $index = 0).family",
        [],
        ["ab"],
        "5: $index is that of the innermost function, and afterwards that of the one around it",
    ),
    Fault("name.family.hasValue()", None, [True], "FHIR R4, Using FHIRPath with FHIR: hasValue()"),
)


def raw(resource: dict[str, Any], path: str) -> list[Any]:
    """Return what fhirpathpy answers."""
    found = fhirpathpy.evaluate(resource, path, model=models["r4"])
    return [getattr(item, "data", item) for item in found]


def evaluate(resource: dict[str, Any], path: str) -> list[Any]:
    """Return what fhirpathpy answers with the faults mended that generated paths meet."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fhirpathpy.engine.make_param", restoring_this)
        patched.setitem(invocation_registry["take"], "nullable", True)
        patched.setattr("fhirpathpy.engine.invocations.equality.equality", itemwise)
        return raw(resource, path)


def restoring_this(context: dict[str, Any], *others: Any) -> Any:
    """Make an argument as fhirpathpy does, and leave `$this` as it was: it reads the next argument from there."""
    this = {name: value for name, value in context.items() if name == "$this"}

    def restored(found: Any) -> Any:
        context.pop("$this", None)
        context.update(this)
        return found

    found = restored(make_param(context, *others))
    return (lambda item: restored(found(item))) if callable(found) else found


def itemwise(context: dict[str, Any], left: list[Any], right: list[Any]) -> Any:
    """Compare collections of several items item by item."""
    if len(left) != len(right) or len(left) < 2:
        return equality(context, left, right)
    return all(equality(context, [a], [b]) for a, b in zip(left, right, strict=True))
