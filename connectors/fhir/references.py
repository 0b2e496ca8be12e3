"""Resolves references at the door: to the patient of a resource, and between the entries of one Bundle.

The patient of a resource is stored as an id, or, where the reference names an identifier instead (a logical, a
conditional or a contained one), as a token ``?identifier=system|value``, several joined as ``&identifier=``. Which
Patient has that identifier is looked up when the lake is mapped: the Patient may come later, or get another identifier.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors.fhir.bundle import Bundle, Entry

PATIENT_REFERENCE = re.compile(r"(?:Patient/|.*/Patient/)([A-Za-z0-9\-.]{1,256})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
# A search by anything else than one `identifier` cannot be answered without a server (FHIR R4 http.html#trules).
CONDITIONAL = re.compile(r"(?:[a-z]+://.*/)?([A-Z][A-Za-z]+)\?identifier=([^&#]+)")
UNESCAPED_COMMA = re.compile(r"(?<!\\),")
TOKEN = "?identifier="  # noqa: S105 (no secret)
ALSO = "&identifier="

BARE_ID = re.compile(r"[A-Za-z0-9\-.]{1,256}")
UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
RESTFUL = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,256})")
IN_TEXT = re.compile(rb'("reference"\s*:\s*)"([^"\\]+)"')


def is_token(patient: str | None) -> bool:
    """Return True for an identifier that is to be looked up, False for an id or for nobody."""
    return patient is not None and patient.startswith(TOKEN)


def patient_of(body: Mapping[str, Any]) -> str | None:
    """Return the id or the token of the Patient that the resource is about, None if it does not say.

    >>> patient_of({"subject": {"reference": "Patient/p1/_history/2"}})
    'p1'
    >>> patient_of({"subject": {"identifier": {"system": "urn:mrn", "value": "7"}}})
    '?identifier=urn:mrn|7'
    """
    # R4 has `subject` in most resources, and `patient` in a few (AllergyIntolerance, Immunization, Claim).
    for element in ("subject", "patient"):
        reference = body.get(element)
        if isinstance(reference, dict) and (found := _patient(reference, body)):
            return found
    return None


def _patient(reference: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    target = reference.get("reference")
    if isinstance(target, str):
        target = target.strip()
        if match := PATIENT_REFERENCE.fullmatch(target):
            return match.group(1)
        # Of a Patient in another file or Bundle whose id is that UUID, as converters write it.
        if target.lower().startswith("urn:uuid:") and (match := UUID.fullmatch(target[9:].lower())):
            return match.group()
        # Without a type, which is against the standard: nearly every subject is a Patient, and who is not there counts
        # as nobody.
        if BARE_ID.fullmatch(target) and reference.get("type", "Patient") == "Patient":
            return target
        if target.startswith("#"):
            return _token(identifiers_of(_contained_patient(body, target[1:])))
        kind, identifiers = conditional(target)
        if identifiers:
            return _token(identifiers) if kind == "Patient" else None
    # A logical reference, or one that leads nowhere and says by an identifier whom it means (FHIR R4 references.html).
    if reference.get("type", "Patient") == "Patient":
        return _token(identifiers_of({"identifier": [reference.get("identifier")]}))
    return None


def _contained_patient(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    contained = body.get("contained")
    for each in contained if isinstance(contained, list) else []:
        if isinstance(each, dict) and each.get("id") == name and each.get("resourceType") == "Patient":
            return each
    return {}


def identifiers_of(body: Mapping[str, Any]) -> list[str]:
    """Return the identifiers of a resource as `system|value`; one without a system as `|value`."""
    listed = body.get("identifier")
    found = []
    for each in listed if isinstance(listed, list) else []:
        value = each.get("value") if isinstance(each, dict) else None
        if isinstance(value, str) and value:
            system = each.get("system")
            found.append(f"{system.strip() if isinstance(system, str) else ''}|{value.strip()}")
    return found


def _token(identifiers: Sequence[str]) -> str | None:
    return TOKEN + ALSO.join(identifiers) if identifiers else None


def conditional(reference: str) -> tuple[str, list[str]]:
    """Return the type and the identifiers that a conditional reference asks for; ('', []) if it is none.

    >>> conditional("Patient?identifier=urn:mrn%7C7")
    ('Patient', ['urn:mrn|7'])
    """
    match = CONDITIONAL.fullmatch(reference)
    if match is None:
        return "", []
    # A comma means "any of these", and is escaped where it is part of a value (FHIR R4 search.html#escaping).
    return match.group(1), [re.sub(r"\\(.)", r"\1", each) for each in UNESCAPED_COMMA.split(unquote(match.group(2)))]


class _Identity(msgspec.Struct):
    resourceType: object = None  # noqa: N815 (name of FHIR)
    id: object = msgspec.UNSET
    identifier: object = None


_decode = msgspec.json.Decoder(_Identity).decode


class BundleReferences:
    """The entries of one Bundle, with the ids and references that a server would have given them.

    A server that processes a transaction replaces `urn:uuid:…` and conditional references by `Type/id` (FHIR R4
    http.html#trules), and gives an id to what has none. Only the texts of these references change.

    Args:
        bundle: the Bundle.
        outer: the same of the Bundle that this one is an entry of: its own entries come first.
    """

    def __init__(self, bundle: Bundle, outer: BundleReferences | None = None) -> None:
        self._by_url: dict[str, str] = dict(outer._by_url) if outer else {}
        self._by_identifier: dict[str, set[str]] = {}
        if outer:
            self._by_identifier = {identifier: set(found) for identifier, found in outer._by_identifier.items()}
        self._new_ids: dict[int, str] = {}
        self._bundles: set[int] = set()  # entries that are Bundles: their references are their own affair
        searched = any(b"?identifier=" in entry.resource for entry in bundle.entries)
        for number, entry in enumerate(bundle.entries):
            self._add(number, entry, searched=searched)

    def _add(self, number: int, entry: Entry, *, searched: bool) -> None:
        try:
            head = _decode(entry.resource)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return  # why it cannot be read is said when it is read
        kind, id_ = head.resourceType, head.id
        if not isinstance(kind, str):
            return
        if kind == "Bundle":
            self._bundles.add(number)
            return
        if id_ is msgspec.UNSET and (id_ := assigned_id(entry, kind)):
            self._new_ids[number] = id_
        if not isinstance(id_, str):
            return
        target = f"{kind}/{id_}"
        if entry.full_url and not f"/{entry.full_url}".endswith(f"/{target}"):
            self._by_url[_same_case(entry.full_url)] = target
        if searched:
            for identifier in identifiers_of({"identifier": head.identifier}):
                self._by_identifier.setdefault(f"{kind} {identifier}", set()).add(target)

    def resources(self, bundle: Bundle) -> Iterator[bytes]:
        """Yield the text of each entry's resource, in their order; b'' of an entry without one."""
        for number, entry in enumerate(bundle.entries):
            raw = entry.resource
            if number in self._new_ids:
                raw = b'{"id":"%s",' % self._new_ids[number].encode() + raw.lstrip().removeprefix(b"{")
            if number not in self._bundles and (self._by_url or self._by_identifier):
                raw = IN_TEXT.sub(self._replaced, raw)
            yield raw

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        reference = found.group(2).decode("utf-8", "replace")
        target = self._by_url.get(_same_case(reference)) or self._only_target(reference)
        return found.group(1) + b'"' + target.encode() + b'"' if target else found.group()

    def _only_target(self, reference: str) -> str | None:
        """Return the one entry that a conditional reference means; None if there is none, or more than one."""
        kind, identifiers = conditional(reference)
        targets = {target for each in identifiers for target in self._by_identifier.get(f"{kind} {each}", ())}
        return targets.pop() if len(targets) == 1 else None


def _same_case(url: str) -> str:
    # A UUID is written in either case (RFC 4122, 3).
    return url.lower() if url[:4].lower() == "urn:" else url


def assigned_id(entry: Entry, kind: str) -> str | None:
    """Return the id for a resource without one; None where nothing tells it from another resource.

    A server would invent one. Here the same entry must get the same id whenever and wherever it is read: the UUID of
    its fullUrl, or, of a conditional create or update, one made of the identifier by which a server would find it.
    """
    searched = entry.if_none_exist or (entry.url.partition("?")[2] if entry.method == "PUT" else "")
    if searched.startswith("identifier="):
        return hashlib.sha256(f"{kind}?{unquote(searched)}".encode()).hexdigest()[:32]
    urls = (entry.url, entry.full_url) if entry.method == "PUT" else (entry.full_url,)
    for url in urls:
        if (match := RESTFUL.fullmatch(url)) and match.group(1) == kind:
            return match.group(2)
    scheme, _, uuid = entry.full_url.lower().rpartition(":")
    if scheme != "urn:uuid":
        return None
    # What is no UUID ("urn:uuid:patient-1") may stand for another resource in another Bundle.
    return uuid if UUID.fullmatch(uuid) else hashlib.sha256(entry.resource).hexdigest()[:32]
