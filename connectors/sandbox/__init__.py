"""Synthetic test patients on a FHIR server: load them, and remove them again."""
