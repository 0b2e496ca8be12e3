"""The resources of a sandbox as Bundle entries: tagged, compared, with references rewritten, and in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

Resource = dict[str, Any]

# URIs of our own under a name that is reserved for examples (RFC 2606): they identify, nothing is served there.
COHORT_SYSTEM = "http://periop.example/fhir/CodeSystem/sandbox-cohort"
RESOURCE_SYSTEM = "http://periop.example/fhir/CodeSystem/sandbox-resource"
DISPLAY = "Invented for testing periop; removed by `periop sandbox clear`"
KEPT_META = ("profile", "security", "tag")  # version and time are for the server to give


def cohort_reference(resource: Resource) -> str:
    """Return `Type/id` as the cohort names the resource: by our tag, where the server chose another id."""
    for tag in _tags(resource):
        if tag.get("system") == RESOURCE_SYSTEM and isinstance(tag.get("code"), str):
            return str(tag["code"])
    return server_reference(resource)


def server_reference(resource: Resource) -> str:
    """Return `Type/id` as the server names the resource."""
    return f"{resource['resourceType']}/{resource['id']}"


def is_tagged(resource: Resource, cohort: str) -> bool:
    """Return whether the resource bears our tag, which means that we put it there."""
    return any(tag.get("system") == COHORT_SYSTEM and tag.get("code") == cohort for tag in _tags(resource))


def tag_query(cohort: str) -> tuple[str, str]:
    """Return the search parameter that finds what we put there."""
    return "_tag", f"{COHORT_SYSTEM}|{cohort}"


def add_tag(resource: Resource, cohort: str) -> Resource:
    """Return the resource with our tag, and without its version and time."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name in KEPT_META}
    tag = {"system": COHORT_SYSTEM, "code": cohort, "display": DISPLAY}
    return {**resource, "meta": {**meta, "tag": [*_tags(resource), tag]}}


def _tags(resource: Resource) -> list[dict[str, Any]]:
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    return [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []


def differs(ours: Resource, theirs: Resource) -> bool:
    """Return whether the server holds something else than we would put there."""
    return _comparable(ours) != _comparable(theirs)


def _comparable(resource: Resource) -> dict[str, Any]:
    # Servers choose the id, generate the narrative (`text`), and add to `meta`: none of that is a difference.
    content = {name: value for name, value in resource.items() if name not in ("id", "meta", "text")}
    meta = resource.get("meta", {})
    content["meta.profile"] = sorted(meta.get("profile", []))
    for name in ("security", "tag"):
        codings = [each for each in meta.get(name, []) if each.get("system") != RESOURCE_SYSTEM]
        content[f"meta.{name}"] = sorted((each.get("system", ""), each.get("code", "")) for each in codings)
    return content


def references(value: object) -> Iterator[str]:
    """Find every reference in a resource, as it is written."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "reference" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def rewrite_references(value: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a resource in which the references that are keys of `names` are replaced.

    >>> rewrite_references({"subject": {"reference": "Patient/a"}}, {"Patient/a": "Patient/7"})
    {'subject': {'reference': 'Patient/7'}}
    """
    if isinstance(value, dict):
        return {
            name: names.get(item, item)
            if name == "reference" and isinstance(item, str)
            else rewrite_references(item, names)
            for name, item in value.items()
        }
    return [rewrite_references(item, names) for item in value] if isinstance(value, list) else value


def put_entry(base: str, resource: Resource, ids: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry that PUTs a resource under our id, or under the one that the server gave it (`ids`)."""
    place = ids.get(cohort_reference(resource), server_reference(resource))
    body = {**rewrite_references(resource, ids), "id": place.partition("/")[2]}
    return {"fullUrl": f"{base}/{place}", "resource": body, "request": {"method": "PUT", "url": place}}


def create_entries(base: str, resources: Sequence[Resource], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return conditional creates (FHIR R4, 3.1.0.8.1) of what the server does not have, updates of what it has.

    They refer to each other by `urn:uuid:`, which the server replaces with the ids that it chooses (3.1.0.11.2).
    """
    new = [each for each in resources if cohort_reference(each) not in ids]
    names = {**ids, **{cohort_reference(each): uuid5(NAMESPACE_URL, cohort_reference(each)).urn for each in new}}
    updates = [put_entry(base, each, names) for each in resources if cohort_reference(each) in ids]
    return [*updates, *(_create_entry(each, names) for each in new)]


def _create_entry(resource: Resource, names: Mapping[str, str]) -> dict[str, Any]:
    name = cohort_reference(resource)
    body = {key: value for key, value in rewrite_references(resource, names).items() if key != "id"}
    body["meta"] = {**body["meta"], "tag": [*body["meta"]["tag"], {"system": RESOURCE_SYSTEM, "code": name}]}
    # The condition makes a repeated create harmless: the server answers with the resource that it has.
    condition = f"_tag={quote(f'{RESOURCE_SYSTEM}|{name}', safe='')}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": names[name], "resource": body, "request": request}


def delete_entry(resource: Resource) -> dict[str, Any]:
    """Return the entry that DELETEs a resource under the id that it has on the server."""
    return {"request": {"method": "DELETE", "url": server_reference(resource)}}


def patient_of(resource: Resource) -> str:
    """Return the reference to the patient whom a resource belongs to, '' if there is none."""
    if resource["resourceType"] == "Patient":
        return server_reference(resource)
    owner = resource.get("subject") or resource.get("patient") or {}
    return str(owner.get("reference", ""))


def chunks_by_patient(resources: Sequence[Resource], size: int) -> Iterator[list[Resource]]:
    """Split resources into chunks of about `size` that hold whole patients, resources without a patient first."""
    patients: dict[str, list[Resource]] = {"": []}
    for resource in resources:
        patients.setdefault(patient_of(resource), []).append(resource)
    chunk: list[Resource] = []
    # Whole patients, because a transaction fails if a reference leads to something that is not there yet.
    for belongings in patients.values():
        chunk += belongings
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def referrers_first(resources: Sequence[Resource]) -> list[Resource]:
    """Order resources for deletion: each before those it refers to, as far as there are no circles."""
    here = {server_reference(each): each for each in resources}
    done: dict[str, Resource] = {}

    def visit(place: str, on_the_way: frozenset[str]) -> None:
        for target in references(here[place]):
            if target in here and target not in done and target not in on_the_way:
                visit(target, on_the_way | {target})
        done.setdefault(place, here[place])

    for place in here:
        if place not in done:
            visit(place, frozenset({place}))
    return list(reversed(done.values()))  # `visit` finished targets before their referrers
