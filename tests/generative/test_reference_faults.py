"""The faults of fhirpathpy are still there, are mended where it is said, and are none of ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition, run_view
from tests.generative.reference_faults import FAULTS, Fault, evaluate, raw

PATHS = [pytest.param(fault, id=fault.path) for fault in FAULTS]


@pytest.mark.parametrize("fault", PATHS)
def test_the_reference_has_the_fault(fault: Fault) -> None:
    """If this fails, a new version of fhirpathpy has repaired it: delete the entry, and generate such paths."""
    if fault.answer is None:
        with pytest.raises(Exception, match=r".+"):  # fhirpathpy raises plain exceptions
            raw(fault.resource, fault.path)
    else:
        assert raw(fault.resource, fault.path) == fault.answer


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.path) for fault in FAULTS if fault.mended])
def test_a_mended_fault_is_mended(fault: Fault) -> None:
    assert evaluate(fault.resource, fault.path) == fault.right


@pytest.mark.parametrize("fault", PATHS)
def test_ours_is_right(fault: Fault) -> None:
    column = {"name": "found", "path": fault.path, "collection": True}
    view = ViewDefinition.load({"resource": fault.resource["resourceType"], "select": [{"column": [column]}]})
    with DuckDBEngine(threads=1) as engine:
        (items,) = run_view(view, [fault.resource], engine)["found"]
    assert plain(items.tolist()) == fault.right


def plain(items: list[Any]) -> list[Any]:
    return [int(item) if isinstance(item, Decimal) and item == int(item) else item for item in items]
