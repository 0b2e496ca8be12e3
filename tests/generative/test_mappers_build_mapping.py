"""Property: after any sequence of changes, cohort rows derived night by night are those derived at once."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappers.study import Study
from mappers.terminology import SHIPPED
from mappers.terminology.rules import REPLACES
from tests.nights import ALNEO, BOTH_CUTOFFS, SITES, Hospital, charts, differing, fresh, mapped, settled

CHARTS = [resource for chart in charts() for resource in chart.resources]
PATIENTS = ("rich", "plain", "other", "odd", "new")
STUDIES = (
    ALNEO,
    BOTH_CUTOFFS.model_copy(update={"response": ALNEO.response.model_copy(update={"mpr_threshold_percent": 70})}),
)

# a link to another record, a Patient with other identifiers, and a resource that names one of these
PERSONS = ("merge", "merge", "identify", "refer")
LINKS = ("replaced-by", "replaces", "refer", "seealso")

number = st.integers(0, 10**6)
changes = st.lists(
    st.tuples(
        st.sampled_from(("insert", "update", "update", "move", "move", "delete", "resurrect", "label", *PERSONS)),
        number,
        number,
    ),
    min_size=1,
    max_size=6,
)
nights = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("sync", "sync", "late")), st.sampled_from(SITES), changes),
        st.tuples(st.sampled_from(("study", "value set", "sites", "nothing")), st.just(""), st.just([])),
    ),
    min_size=1,
    max_size=5,
)


def changed(what: str, first: int, second: int, hospital: Hospital, site: str) -> tuple[dict[str, Any], bool] | None:
    """A resource of `site` after one change, and whether it is deleted; None where there is nothing to change."""
    held = [body for (where, _, _), body in sorted(hospital.held.items()) if where == site]
    if what == "insert":
        body = deepcopy(CHARTS[first % len(CHARTS)])
        body["id"] = f"{body['id']}-{second % 3}"
        return moved(body, PATIENTS[second % len(PATIENTS)]), False
    if what == "resurrect":
        gone = [body for body in CHARTS if (site, body["resourceType"], body["id"]) not in hospital.held]
        return (gone[first % len(gone)], False) if gone else None
    if not held:
        return None
    body = deepcopy(held[first % len(held)])
    if what == "move":
        body = moved(body, (*PATIENTS, None)[second % (len(PATIENTS) + 1)])
    elif what == "label":
        body["meta"] = {"security": [{"code": "HTEST"}]} if second % 2 else {}
    elif what == "merge" and body["resourceType"] == "Patient":
        body["link"] = [{"type": LINKS[second % 4], "other": {"reference": f"Patient/{PATIENTS[second % 5]}"}}]
    elif what == "identify" and body["resourceType"] == "Patient":
        body["identifier"] = [{"system": "urn:mrn", "value": f"{second % 3}"}, {"value": f"{second % 5}"}]
    elif what == "refer" and body["resourceType"] != "Patient":
        body["subject"] = {"identifier": [{"system": "urn:mrn", "value": f"{second % 3}"}, {"value": "0"}][second % 2]}
    elif what == "update":
        body = updated(body, second)
    return body, what == "delete"


def moved(body: dict[str, Any], patient: str | None) -> dict[str, Any]:
    """The resource of another patient, or of none. A Patient stays who it is."""
    if body["resourceType"] != "Patient":
        body.pop("subject", None)
        if patient is not None:
            body["subject"] = {"reference": f"Patient/{patient}"}
    return body


def updated(body: dict[str, Any], how: int) -> dict[str, Any]:
    """The resource with another date, status, or value."""
    dates = [name for name in body if name.endswith(("Date", "DateTime", "date"))]
    if how % 3 == 0 and dates:
        body[dates[0]] = ("2023", "2023-03", "2023-02-11", "2025-03-03", "not a date")[how % 5]
    elif "status" in body:
        body["status"] = ("entered-in-error", "not-done", "final", "completed")[how % 4]
    if "valueQuantity" in body:
        body["valueQuantity"] = {"value": how % 101, "code": ("%", "1", "mm")[how % 3]}
    if body["resourceType"] == "Patient":
        body |= {"gender": "male", "deceasedDateTime": ("2023-09", "2024-02-02")[how % 2]}
    return body


@given(told=nights)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_night_by_night_gives_what_one_full_map_gives(told: list[tuple[str, str, list[tuple[str, int, int]]]]) -> None:
    with TemporaryDirectory() as folder:
        check(Path(folder), told)


def check(folder: Path, told: list[tuple[str, str, list[tuple[str, int, int]]]]) -> None:
    hospital, study, sites, terminology = Hospital(folder / "data"), ALNEO, SITES, ()
    hospital.night("milan", {(body["resourceType"], body["id"]): body for body in CHARTS})
    config = settled(hospital.data)
    mapped(config, study)
    for what, site, wanted in told:
        study, sites, terminology = ruled(what, study, sites, terminology, folder)
        if wanted:
            bring(hospital, site, wanted, late=what == "late")
        config = settled(hospital.data, sites, terminology)
        mapped(config, study)
    # At the end only: every night is the last one of some sequence.
    anew = fresh(config, folder / "anew")
    mapped(anew, study)
    assert differing(config, anew) == []


def ruled(
    what: str, study: Study, sites: tuple[str, ...], terminology: tuple[Path, ...], folder: Path
) -> tuple[Study, tuple[str, ...], tuple[Path, ...]]:
    """The rules after a change of them: each goes to the other of two, and back."""
    if what == "study":
        study = STUDIES[study == STUDIES[0]]
    if what == "sites":
        sites = SITES[:1] if len(sites) == 2 else SITES
    if what == "value set":
        terminology = () if terminology else (without_partial_response(folder / "valuesets"),)
    return study, sites, terminology


def without_partial_response(folder: Path) -> Path:
    """A folder with a concept map of RECIST responses that does not know PR."""
    folder.mkdir(exist_ok=True)
    known = json.loads((SHIPPED / "recist.json").read_text(encoding="utf-8"))
    known["extension"] = [{"url": REPLACES, "valueBoolean": True}]
    for group in known["group"]:
        group["element"] = [item for item in group["element"] if item["target"][0]["code"] != "PR"]
    (folder / "recist.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


def bring(hospital: Hospital, site: str, wanted: list[tuple[str, int, int]], late: bool) -> None:
    """One sync of `site` with the changes that are possible."""
    rows: dict[tuple[str, str], dict[str, Any] | None] = {}
    for what, first, second in wanted:
        found = changed(what, first, second, hospital, site)
        if found is not None:
            body, gone = found
            rows[body["resourceType"], body["id"]] = None if gone else body
    if rows:
        hospital.night(site, rows, late)
