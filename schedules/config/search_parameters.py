"""The parameters that a site adds to its searches, as its settings give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

NAME = re.compile(r"[a-z][A-Za-z-]{0,63}(:[a-z-]{1,20})?")  # of a search parameter, with its modifier
SET_BY_PERIOP = ("subject", "patient")
MAX_QUERIES = 20  # searches for one batch of patients: the product of the lists of values


def _values(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _names(parameters: Mapping[str, object]) -> Mapping[str, object]:
    for name in parameters:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no search parameter of a type; give a name like category")
        if name.partition(":")[0] in SET_BY_PERIOP:
            raise ValueError(f"sets {name}, which periop sets itself (patient_parameter says which of the two)")
    return parameters


def _few(parameters: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    # A slip of the hand would multiply the requests of every night.
    if len(queries(parameters)) > MAX_QUERIES:
        raise ValueError(f"would be more than {MAX_QUERIES} searches for each batch of patients; join values by commas")
    return parameters


SearchValue = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f]+\z")]
SearchValues = Annotated[tuple[SearchValue, ...], BeforeValidator(_values), Field(min_length=1)]
SearchParameters = Annotated[dict[str, SearchValues], AfterValidator(_names), AfterValidator(_few)]


def queries(parameters: Mapping[str, tuple[str, ...]]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return the parameters of each search: every value of one name with every value of the others.

    >>> queries({"category": ("laboratory", "vital-signs"), "status": ("final",)})
    ((('category', 'laboratory'), ('status', 'final')), (('category', 'vital-signs'), ('status', 'final')))
    """
    named = ([(name, value) for value in values] for name, values in parameters.items())
    return tuple(product(*named))
