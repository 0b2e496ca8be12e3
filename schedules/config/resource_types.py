"""The resource types that a site may be asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

# The resource types that the program can use: those that the shipped views read, and MedicationRequest, by which
# `periop explain` shows what was ordered. A site is asked for those of them that it has.
TYPES = (
    "Patient",
    "Condition",
    "MedicationAdministration",
    "Procedure",
    "AdverseEvent",
    "Observation",
    "MedicationDispense",
    "MedicationStatement",
    "MedicationRequest",
    "DiagnosticReport",
    "Medication",
)
CONSENT_TYPES = ("Consent",)  # asked for only where the settings of a site ask for consent
REQUIRED_TYPES = ("Patient", "Condition")  # without these nobody is in the cohort


def _types(types: tuple[str, ...]) -> tuple[str, ...]:
    """Check the types of a site, and return them in the order of `TYPES`."""
    if unknown := [each for each in types if each not in TYPES]:
        raise ValueError(f"nothing is done with {', '.join(unknown)}; allowed: {', '.join(TYPES)}")
    if missing := [each for each in REQUIRED_TYPES if each not in types]:
        raise ValueError(f"must name {' and '.join(missing)}, without which nobody is in the cohort")
    return tuple(each for each in TYPES if each in types)


def _type(kind: str) -> str:
    if kind not in TYPES:
        raise ValueError(f"nothing is done with {kind}; allowed: {', '.join(TYPES)}")
    return kind


ResourceType = Annotated[str, AfterValidator(_type)]
ResourceTypes = Annotated[tuple[str, ...], AfterValidator(_types)]
