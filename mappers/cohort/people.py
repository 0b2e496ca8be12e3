"""People: what the Patient records of one person say together."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort.facts import KEY, Sources

SEXES = ["female", "male"]


def people(sources: Sources) -> ir.Table:
    """Return one row a person: patient_id, gender, birth_date, deceased, deceased_date, and how the records agree.

    The canonical record comes first, what it does not say is taken from the others. A person with a record that is
    labelled as test data is left out: what belongs to that record cannot be told apart.
    """
    return sources.once("people", lambda: _people(sources))


def _people(sources: Sources) -> ir.Table:
    canonical = _["id"] == _["patient"]
    sex = _["gender"].isin(SEXES)
    rows = sources.views["patient"].group_by(*KEY)
    found = rows.agg(
        patient_id=ibis.coalesce(_["id"].max(where=canonical), _["id"].min()),
        gender=ibis.coalesce(
            _["gender"].max(where=canonical & sex), _["gender"].min(where=sex), _["gender"].max(where=canonical)
        ),
        birth_date=ibis.coalesce(_["birth_date"].max(where=canonical), _["birth_date"].min()),
        deceased=_["deceased"].fill_null(False).any(),
        alive=(~_["deceased"]).fill_null(False).any(),
        deceased_date=ibis.coalesce(_["deceased_date"].max(where=canonical), _["deceased_date"].min()),
        death_dates=_["deceased_date"].nunique(),
        others=_.count() - 1,
        replaced=_["replaced"].fill_null(False).any(),
        sexes=_["gender"].nunique(where=sex),
        births=_["birth_date"].nunique(),
        labelled=_["test_data"].fill_null(False).any(),
    )
    # A record that says it was replaced is told also where the record that replaces it is not there.
    merged = ibis.greatest(_["others"], _["replaced"].ifelse(1, 0))
    found = found.filter(~_["labelled"]).mutate(merged=merged, differing=(_["sexes"] > 1) | (_["births"] > 1))
    return found.drop("labelled", "others", "replaced", "sexes", "births")
