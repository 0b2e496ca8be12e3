"""References at the door: whom a resource is about, and what a server makes of the entries of a transaction."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.fhir.references import conditional, is_token, patient_of
from connectors.fhir.resource import Reason, Rejected, Resource, read_resource
from connectors.sources.folder import NESTED, FolderSource

MRN = {"system": "urn:mrn", "value": "7"}
PATIENT = {"resourceType": "Patient", "id": "p1", "identifier": [MRN]}
UUID = "11111111-1111-4111-8111-000000000007"


@pytest.mark.parametrize(
    ("subject", "patient"),
    [
        ({"reference": "Patient/a"}, "a"),
        ({"reference": "https://fhir.example/r4/Patient/a"}, "a"),
        ({"reference": "Patient/a/_history/2"}, "a"),
        ({"reference": "https://fhir.example/r4/Patient/a/_history/2"}, "a"),
        ({"identifier": MRN}, "?identifier=urn:mrn|7"),
        ({"identifier": MRN, "type": "Patient", "display": "somebody"}, "?identifier=urn:mrn|7"),
        ({"identifier": {"value": "7"}}, "?identifier=|7"),
        ({"identifier": MRN, "type": "Group"}, None),
        ({"identifier": {"system": "urn:mrn"}}, None),
        ({"reference": "Patient?identifier=urn:mrn|7"}, "?identifier=urn:mrn|7"),
        ({"reference": "Patient?identifier=urn%3Amrn%7C7"}, "?identifier=urn:mrn|7"),
        ({"reference": "Patient?identifier=7"}, "?identifier=7"),
        ({"reference": "Patient?identifier=a|1,b|2\\,3"}, "?identifier=a|1&identifier=b|2,3"),
        ({"reference": "Patient?identifier=a|1&active=true"}, None),
        ({"reference": "Patient?name=Rossi"}, None),
        ({"reference": "Group?identifier=a|1"}, None),
        ({"reference": "urn:uuid:of-no-bundle"}, None),
        ({"reference": "urn:uuid:of-no-bundle", "identifier": MRN}, "?identifier=urn:mrn|7"),
        ({"reference": f"urn:uuid:{UUID}"}, UUID),  # of another file: it may be the id of a Patient
        ({"reference": f" URN:UUID:{UUID.upper()} "}, UUID),
        ({"reference": " /Patient/a "}, "a"),
        ({"identifier": {"system": " urn:mrn", "value": "7 "}}, "?identifier=urn:mrn|7"),
        ({"reference": "a"}, "a"),  # the type is missing
        ({"reference": "a", "type": "Group"}, None),
        ({"reference": "Group/a"}, None),
        ({"reference": "MyPatient/a"}, None),
        ({"reference": "Patient/a/b"}, None),
        ({"reference": "#p"}, "?identifier=urn:mrn|7"),
        ({"reference": "#without"}, None),
        ({"reference": "#none"}, None),
        ({"reference": "#group"}, None),
        ({"display": "somebody"}, None),
        ({"reference": 7, "identifier": [MRN]}, None),
        ("Patient/a", None),
    ],
)
def test_whom_a_resource_is_about(subject: object, patient: str | None) -> None:
    contained = [
        {"resourceType": "Patient", "id": "p", "identifier": [MRN]},
        {"resourceType": "Patient", "id": "without"},
        {"resourceType": "Group", "id": "group", "identifier": [MRN]},
    ]
    assert patient_of({"subject": subject, "contained": contained}) == patient
    assert patient_of({"patient": subject, "contained": contained}) == patient


def test_a_subject_that_is_no_patient_does_not_hide_the_element_patient() -> None:
    assert patient_of({"subject": {"reference": "Group/a"}, "patient": {"reference": "Patient/b"}}) == "b"


def test_what_is_no_conditional_reference() -> None:
    assert conditional("Patient/a") == ("", [])
    assert not is_token("a")
    assert not is_token(None)


def test_a_token_makes_another_version_of_what_was_stored_without_a_patient() -> None:
    raw = json.dumps({"id": "o", "resourceType": "Observation", "subject": {"identifier": MRN}}).encode()
    item = read_resource(raw, "here")
    assert isinstance(item, Resource)
    canonical = b'{"id":"o","resourceType":"Observation","subject":{"identifier":{"system":"urn:mrn","value":"7"}}}'
    assert item.digest == hashlib.sha256(canonical + b"?identifier=urn:mrn|7").hexdigest()


# ---- Bundles ----


def observation(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o", "subject": {"reference": f"urn:uuid:{UUID}"}, **members}


def entry(resource: dict[str, Any] | None, full_url: str = "", **request: str) -> dict[str, Any]:
    found: dict[str, Any] = {"fullUrl": full_url} if full_url else {}
    if resource is not None:
        found["resource"] = resource
    return found | ({"request": request} if request else {})


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def pull(folder: Path, *documents: dict[str, Any]) -> list[Resource | Rejected]:
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_text(json.dumps(document))
    items = list(FolderSource(folder).pull())
    assert all(isinstance(item, (Resource, Rejected)) for item in items)
    return items  # type: ignore[return-value]


def read(folder: Path, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    items = pull(folder, *documents)
    assert all(isinstance(item, Resource) for item in items), items
    return [json.loads(item.raw) for item in items if isinstance(item, Resource)]


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "message", "document", "searchset"])
def test_every_reference_between_entries_is_that_of_the_server(tmp_path: Path, kind: str) -> None:
    members = {
        "hasMember": [{"reference": "urn:uuid:22222222-2222-4222-8222-000000000001", "display": "urn:uuid:x"}],
        "focus": [{"reference": "http://elsewhere.example/c"}, {"reference": "Patient/p1"}],
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{UUID}"}],
    }
    found = read(
        tmp_path,
        bundle(
            entry(observation(**members), "urn:uuid:22222222-2222-4222-8222-000000000002"),
            entry(
                {"resourceType": "Observation", "id": "member"}, "urn:uuid:22222222-2222-4222-8222-00000000000A".lower()
            ),
            entry(
                {"resourceType": "Observation", "id": "first"}, "urn:uuid:22222222-2222-4222-8222-000000000001".upper()
            ),
            entry({"resourceType": "Condition", "id": "c1"}, "http://elsewhere.example/c"),
            entry(PATIENT, f"urn:uuid:{UUID}"),
            kind=kind,
        ),
    )
    assert found[0]["subject"] == {"reference": "Patient/p1"}
    assert found[0]["hasMember"] == [{"reference": "Observation/first", "display": "urn:uuid:x"}]
    assert found[0]["focus"] == [{"reference": "Condition/c1"}, {"reference": "Patient/p1"}]
    assert found[0]["identifier"] == members["identifier"]  # no reference: a server leaves it


def test_the_rest_of_the_text_stays_as_received(tmp_path: Path) -> None:
    text = (
        '{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","id":"p"}},'
        '{"resource":{"resourceType": "Observation", "id":"o", "subject" : {"reference" : "urn:uuid:1"}, "v":1.10}}]}'
    )
    (tmp_path / "a.json").write_text(text)
    items = [item for item in FolderSource(tmp_path).pull() if isinstance(item, Resource)]
    assert items[1].raw == (
        '{"resourceType": "Observation", "id":"o", "subject" : {"reference" : "Patient/p"}, "v":1.10}'
    )
    assert items[1].patient == "p"


def test_an_entry_without_an_id_gets_the_uuid_of_its_full_url(tmp_path: Path) -> None:
    without = {"resourceType": "Patient", "identifier": [MRN]}
    found = read(
        tmp_path, bundle(entry(without, f"urn:uuid:{UUID}", method="POST", url="Patient"), entry(observation()))
    )
    assert found == [
        {"id": UUID, **without},
        observation(subject={"reference": f"Patient/{UUID}"}),
    ]


def test_what_is_no_uuid_is_no_id_that_two_bundles_share(tmp_path: Path) -> None:
    one, other = ({"resourceType": "Patient", "gender": gender} for gender in ("male", "female"))
    found = read(
        tmp_path,
        *(
            bundle(entry(each, "urn:uuid:patient-1"), entry(observation(subject={"reference": "urn:uuid:patient-1"})))
            for each in (one, other)
        ),
    )
    assert found[0]["id"] != found[2]["id"]
    assert [each["subject"]["reference"] for each in found[1::2]] == [f"Patient/{each['id']}" for each in found[::2]]


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:mrn|7"},
        {"method": "PUT", "url": "Patient?identifier=urn%3Amrn%7C7"},
    ],
)
def test_a_conditional_create_is_one_patient_in_all_bundles(tmp_path: Path, request_: dict[str, str]) -> None:
    without = {"resourceType": "Patient", "identifier": [MRN]}
    found = read(
        tmp_path,
        *(
            bundle(
                entry(without, f"urn:uuid:{number}", **request_),
                entry(observation(subject={"reference": f"urn:uuid:{number}"})),
            )
            for number in "12"
        ),
    )
    assert found[0] == found[2]
    assert found[1] == found[3] == observation(subject={"reference": f"Patient/{found[0]['id']}"})


@pytest.mark.parametrize(
    ("full_url", "request_"),
    [
        ("https://fhir.example/Patient/p9", {}),
        (f"urn:uuid:{UUID}", {"method": "PUT", "url": "Patient/p9"}),
    ],
)
def test_an_id_in_a_url_is_the_id(tmp_path: Path, full_url: str, request_: dict[str, str]) -> None:
    assert read(tmp_path, bundle(entry({"resourceType": "Patient"}, full_url, **request_)))[0]["id"] == "p9"


@pytest.mark.parametrize("full_url", ["", "urn:oid:1.2.3", "https://fhir.example/Observation/o1"])
def test_without_anything_that_names_it_there_is_no_id(tmp_path: Path, full_url: str) -> None:
    [item] = pull(tmp_path, bundle(entry({"resourceType": "Patient"}, full_url)))
    assert isinstance(item, Rejected)
    assert item.reason is Reason.NO_ID


def test_conditional_references_within_the_bundle(tmp_path: Path) -> None:
    twice = {"resourceType": "Medication", "identifier": [{"value": "m"}]}
    found = read(
        tmp_path,
        bundle(
            entry(PATIENT),
            entry({"id": "m1", **twice}),
            entry({"id": "m2", **twice}),
            entry(observation(subject={"reference": "Patient?identifier=urn:mrn|7"})),
            entry(observation(subject={"reference": "Medication?identifier=|m"})),
            entry(observation(subject={"reference": "Condition?identifier=urn:mrn|7"})),
        ),
    )
    assert [each["subject"]["reference"] for each in found[3:]] == [
        "Patient/p1",
        "Medication?identifier=|m",  # two have it
        "Condition?identifier=urn:mrn|7",  # of another type
    ]


def test_a_bundle_in_a_bundle_is_worth_its_entries(tmp_path: Path) -> None:
    inner = bundle(entry(observation()), entry({"resourceType": "Patient", "id": "p2"}, "urn:uuid:own"))
    own = bundle(
        entry({"resourceType": "Patient", "id": "p3"}, f"urn:uuid:{UUID}"),
        entry(observation(id="o2")),
    )
    found = read(tmp_path, bundle(entry(PATIENT, f"urn:uuid:{UUID}"), entry(inner), entry(own)))
    subjects = {each["id"]: each["subject"]["reference"] for each in found if "subject" in each}
    # The second one has that fullUrl itself.
    assert subjects == {"o": "Patient/p1", "o2": "Patient/p3"}
    assert [each["id"] for each in found] == ["p1", "o", "p2", "p3", "o2"]


def test_bundles_in_bundles_without_end_are_set_aside(tmp_path: Path) -> None:
    nested = bundle(entry(PATIENT))
    for _ in range(NESTED):
        nested = bundle(entry(nested))
    assert read(tmp_path, nested) == [PATIENT]
    [item] = pull(tmp_path, bundle(entry(nested)))
    assert isinstance(item, Rejected)
    assert item.reason is Reason.TOO_DEEP


STYLES = ("relative", "urn", "absolute", "conditional", "versioned")


@given(st.lists(st.sampled_from(STYLES), min_size=1, max_size=8), st.randoms(use_true_random=False), st.booleans())
def test_the_style_of_references_and_their_order_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, styles: list[str], random: Any, nested: bool
) -> None:
    urls = {name: f"urn:uuid:{number:08d}-1111-4111-8111-000000000000" for number, name in enumerate("ab")}
    people = [{"resourceType": "Patient", "id": name, "identifier": [{"value": name}]} for name in "ab"]
    entries = [entry(each, urls[each["id"]]) for each in people]
    expected = {name: name for name in "ab"}
    for number, style in enumerate(styles):
        name = "ab"[number % 2]
        reference = {
            "relative": f"Patient/{name}",
            "urn": urls[name],
            "absolute": f"https://fhir.example/Patient/{name}",
            "conditional": f"Patient?identifier=|{name}",
            "versioned": f"Patient/{name}/_history/3",
        }[style]
        entries.append(entry(observation(id=f"o{number}", subject={"reference": reference})))
        expected[f"o{number}"] = name
    random.shuffle(entries)
    document = bundle(entry(bundle(*entries))) if nested else bundle(*entries)
    items = pull(tmp_path_factory.mktemp("styles"), document)
    assert {item.id: item.patient for item in items if isinstance(item, Resource)} == expected
