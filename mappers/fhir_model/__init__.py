"""The elements of FHIR R4 resources, and the part of them that a view reads."""
