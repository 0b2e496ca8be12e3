"""The names of the FHIR R4 resource types, and of those that R4B added.

Source: https://hl7.org/fhir/R4/valueset-resource-types.html and
https://hl7.org/fhir/R4B/valueset-resource-types.html, without the abstract `Resource` and `DomainResource`.
"""

from __future__ import annotations

from pathlib import Path


def _names(file: str) -> frozenset[str]:
    return frozenset(Path(__file__).with_name(file).read_text(encoding="ascii").split())


R4 = _names("resource_types_r4.txt")
R4B_ADDED = _names("resource_types_r4b.txt")

# Types that are about no patient: no element of theirs says whom they concern (R4 compartment definition of Patient).
WITHOUT_PATIENT = frozenset({"Medication"})

# Servers of R4 often send types of R4B too: they are stored, though no view reads them.
KNOWN = R4 | R4B_ADDED
