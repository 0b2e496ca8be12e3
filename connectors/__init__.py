"""From FHIR servers and folders to the lake. Knows nothing of oncology."""
