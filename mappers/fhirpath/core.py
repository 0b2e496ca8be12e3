"""The language of SQL on FHIR: what its shareable profile asks for, but arithmetic, which `n1` has."""

from __future__ import annotations

from mappers.fhirpath.comparison import OPERATORS
from mappers.fhirpath.functions import FUNCTIONS
from mappers.fhirpath.language import Language

CORE = Language(FUNCTIONS, OPERATORS)
