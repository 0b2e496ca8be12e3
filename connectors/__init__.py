"""FHIR servers and folders -> lake. Knows nothing of oncology."""
