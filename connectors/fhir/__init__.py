"""FHIR R4 resources, Bundles and what a source reports about them, as received."""
