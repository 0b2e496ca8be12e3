"""The FHIRPath of views: the core with all of N1. docs/fhirpath.md lists it for the writers of views."""

from __future__ import annotations

from mappers.fhirpath.core import CORE
from mappers.fhirpath.n1.language import N1

LANGUAGE = CORE.extended(N1)
