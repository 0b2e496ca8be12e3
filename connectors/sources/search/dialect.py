"""Writes searches as one server wants them: it may want other words for the same question.

A server may demand a parameter beside the patient (Epic refuses an Observation search without category or code: "Both
patient and code or category are required", open.epic.com/Clinical/Observation; US Core asks of it only patient +
category), may know a patient as `patient` and not as `subject` (US Core), or may take searches by POST alone.
`SearchRequest` says what is asked for, in the words of FHIR R4; here it becomes what is sent, for all searches alike:
of the cohort, of everything, of changes, of ids, and of counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from connectors.fhir.capability import CapabilityStatement
from connectors.sources.search.requests import SearchLimits, SearchRequest

Params = tuple[tuple[str, str], ...]

# FHIR R4 names the parameter of these types `patient`, and has no `subject` for them.
BY_PATIENT = frozenset(
    {
        *("AllergyIntolerance", "Claim", "ClaimResponse", "Consent", "Coverage", "EpisodeOfCare"),
        *("ExplanationOfBenefit", "FamilyMemberHistory", "Immunization", "NutritionOrder", "VisionPrescription"),
    }
)
# And these are known by `subject` alone (hl7.org/fhir/R4/adverseevent.html#search).
BY_SUBJECT = frozenset({"AdverseEvent"})
UNBOUNDED = 1 << 20  # characters of a body that is sent by POST


@dataclass(frozen=True)
class Dialect:
    """The words of one server.

    queries: by type, the parameters that each of its searches has; several sets of them are several searches, whose
    results are united. by_patient: types that are searched by `patient`; without it those of FHIR R4. post: the
    parameters go into the body of a POST to `_search`.

    >>> Dialect(by_patient=frozenset({"Condition"})).patient_parameter("Condition")
    'patient'
    """

    queries: Mapping[str, tuple[Params, ...]] = field(default_factory=dict)
    by_patient: frozenset[str] = BY_PATIENT
    post: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what of it decides which resources are asked for; nothing where it adds no parameters."""
        return tuple(f"{kind}?{urlencode(each)}" for kind in sorted(self.queries) for each in self.queries[kind])

    def patient_parameter(self, kind: str) -> str:
        """Return the name by which a patient is searched for in a type that has patients."""
        return "patient" if kind in self.by_patient else "subject"

    def written(self, request: SearchRequest) -> tuple[SearchRequest, ...]:
        """Return the searches that are sent for a request, at least one. A history is sent as it is."""
        if request.suffix:
            return (request,)
        params = tuple(self._parameter(request.resource_type, *each) for each in request.params)
        added = self.queries.get(request.resource_type, ((),))
        return tuple(replace(request, params=(*params, *each)) for each in added)

    def within(self, limits: SearchLimits) -> SearchLimits:
        """Return the limits for searches in FHIR's own words, so that what is sent keeps to `limits`."""
        # What is in the body has no length that anybody bounds before the server itself.
        if self.post:
            return replace(limits, url=UNBOUNDED)
        longest = max((len(urlencode(each)) for sets in self.queries.values() for each in sets), default=0)
        return replace(limits, url=limits.url - longest)

    def learned(self, statement: CapabilityStatement, types: tuple[str, ...]) -> Dialect:
        """Return the dialect with what a CapabilityStatement says: it lists `patient` for a type, and no `subject`."""
        named = {kind: statement.of_type(kind).parameters for kind in types}
        # Where both are listed, `subject` is what every other server is asked by.
        only = {kind for kind, names in named.items() if "patient" in names and "subject" not in names}
        return replace(self, by_patient=self.by_patient | (only - {"Patient"}))

    def _parameter(self, kind: str, name: str, value: str) -> tuple[str, str]:
        if name != "subject" or kind not in self.by_patient:
            return name, value
        # Of `patient` the type is known, so the ids alone will do (FHIR R4, 3.1.1.4.11): Epic's examples have them so.
        return "patient", ",".join(each.removeprefix("Patient/") for each in value.split(","))


def by_patient(types: tuple[str, ...]) -> frozenset[str]:
    """Return the types that are searched by `patient` where a site says that its server wants that of all types."""
    return (BY_PATIENT | frozenset(types)) - BY_SUBJECT - {"Patient"}
