"""The resources of a sandbox as Bundle entries: tagged, told apart, referring to each other, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

Resource = dict[str, Any]

# URIs of our own under a name that is reserved (RFC 2606): they identify, nothing is served there.
COHORT_SYSTEM = "http://periop.example/fhir/CodeSystem/sandbox-cohort"
RESOURCE_SYSTEM = "http://periop.example/fhir/CodeSystem/sandbox-resource"
DISPLAY = "Invented for testing periop; taken off by `periop sandbox clear`"
COMPARED_META = ("profile", "security", "tag")


def identity_of(resource: Resource) -> str:
    """`Type/id` as the cohort calls the resource: from our tag where the server chose another id."""
    for tag in _tags(resource):
        if tag.get("system") == RESOURCE_SYSTEM and isinstance(tag.get("code"), str):
            return str(tag["code"])
    return f"{resource['resourceType']}/{resource['id']}"


def is_tagged(resource: Resource, cohort: str) -> bool:
    """Whether we put it there."""
    return any(tag.get("system") == COHORT_SYSTEM and tag.get("code") == cohort for tag in _tags(resource))


def tag_query(cohort: str) -> tuple[str, str]:
    """The search parameter that finds what we put there."""
    return "_tag", f"{COHORT_SYSTEM}|{cohort}"


def tagged(resource: Resource, cohort: str) -> Resource:
    """The resource with our tag, and without version and time, which a server gives itself."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name in COMPARED_META}
    tag = {"system": COHORT_SYSTEM, "code": cohort, "display": DISPLAY}
    return {**resource, "meta": {**meta, "tag": [*_tags(resource), tag]}}


def _tags(resource: Resource) -> list[dict[str, Any]]:
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []


def differs(ours: Resource, theirs: Resource) -> bool:
    """Whether the server has something else than we would put there; its own additions to `meta` do not count."""
    return _compared(ours) != _compared(theirs)


def _compared(resource: Resource) -> dict[str, Any]:
    plain = {name: value for name, value in resource.items() if name not in ("id", "meta", "text")}
    meta = resource.get("meta", {})
    plain["meta.profile"] = sorted(meta.get("profile", []))
    for name in ("security", "tag"):
        codings = [each for each in meta.get(name, []) if each.get("system") != RESOURCE_SYSTEM]
        plain[f"meta.{name}"] = sorted((each.get("system", ""), each.get("code", "")) for each in codings)
    return plain


def references(value: object) -> Iterator[str]:
    """Every reference in a resource, as it is written."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "reference" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def with_references(resource: Resource, names: Mapping[str, str]) -> Resource:
    """The resource with the references that `names` maps written anew."""
    rewritten: Resource = _rewritten(resource, names)
    return rewritten


def _rewritten(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: names.get(item, item) if name == "reference" and isinstance(item, str) else _rewritten(item, names)
            for name, item in value.items()
        }
    return [_rewritten(item, names) for item in value] if isinstance(value, list) else value


def put_entry(base: str, resource: Resource, ids: Mapping[str, str]) -> dict[str, Any]:
    """PUT under our id, or under the one that the server gave it."""
    place = ids.get(identity_of(resource), f"{resource['resourceType']}/{resource['id']}")
    body = {**with_references(resource, ids), "id": place.partition("/")[2]}
    return {"fullUrl": f"{base}/{place}", "resource": body, "request": {"method": "PUT", "url": place}}


def create_entries(base: str, resources: Sequence[Resource], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Conditional creates (FHIR R4, 3.1.0.8.1) of what the server does not have, updates of what it has.

    They refer to each other by `urn:uuid:`, which the server replaces by the ids that it chooses (3.1.0.11.2).
    """
    fresh = [each for each in resources if identity_of(each) not in ids]
    names = {**ids, **{identity_of(each): uuid5(NAMESPACE_URL, identity_of(each)).urn for each in fresh}}
    updates = [put_entry(base, each, names) for each in resources if identity_of(each) in ids]
    return [*updates, *(_create_entry(each, names) for each in fresh)]


def _create_entry(resource: Resource, names: Mapping[str, str]) -> dict[str, Any]:
    name = identity_of(resource)
    body = {key: value for key, value in with_references(resource, names).items() if key != "id"}
    body["meta"] = {**body["meta"], "tag": [*body["meta"]["tag"], {"system": RESOURCE_SYSTEM, "code": name}]}
    condition = f"_tag={quote(f'{RESOURCE_SYSTEM}|{name}', safe='')}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": names[name], "resource": body, "request": request}


def delete_entry(resource: Resource) -> dict[str, Any]:
    """DELETE of one."""
    return {"request": {"method": "DELETE", "url": place_of(resource)}}


def place_of(resource: Resource) -> str:
    """`Type/id` on the server."""
    return f"{resource['resourceType']}/{resource['id']}"


def patient_of(resource: Resource) -> str:
    """The reference of the patient whom a resource belongs to; '' where there is none."""
    if resource["resourceType"] == "Patient":
        return place_of(resource)
    owner = resource.get("subject") or resource.get("patient") or {}
    return str(owner.get("reference", ""))


def portions(resources: Sequence[Resource], size: int) -> Iterator[list[Resource]]:
    """Whole patients (resources without a patient first), gathered until `size` resources are reached."""
    patients: dict[str, list[Resource]] = {"": []}
    for resource in resources:
        patients.setdefault(patient_of(resource), []).append(resource)
    portion: list[Resource] = []
    for belongings in patients.values():
        portion += belongings
        if len(portion) >= size:
            yield portion
            portion = []
    if portion:
        yield portion


def referrers_first(resources: Sequence[Resource]) -> list[Resource]:
    """Each before what it refers to, as far as there are no circles: the order to delete in."""
    here = {place_of(each): each for each in resources}
    done: dict[str, Resource] = {}

    def visit(place: str, on_the_way: frozenset[str]) -> None:
        for target in references(here[place]):
            if target in here and target not in done and target not in on_the_way:
                visit(target, on_the_way | {target})
        done.setdefault(place, here[place])

    for place in here:
        if place not in done:
            visit(place, frozenset({place}))
    return list(reversed(done.values()))
