"""The rest of FHIRPath N1: registers functions and operators with the core, which knows nothing of them.

Frozen: views need little of it. It is here because the standard has it, and is tested against fhirpathpy.
"""
