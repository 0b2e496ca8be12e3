"""ViewDefinitions of SQL on FHIR v2: read, compile and run."""
