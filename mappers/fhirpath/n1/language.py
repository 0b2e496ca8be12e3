"""FHIRPath N1 as an extension of the core: the functions and operators that this package registers."""

from __future__ import annotations

from mappers.fhirpath.language import Language
from mappers.fhirpath.n1.collections import COLLECTIONS, united
from mappers.fhirpath.n1.conversions import CONVERSIONS
from mappers.fhirpath.n1.equality import EQUALITY
from mappers.fhirpath.n1.math import ARITHMETIC, MATH
from mappers.fhirpath.n1.quantities import BOUNDARIES, literal
from mappers.fhirpath.n1.strings import STRINGS
from mappers.fhirpath.n1.unsupported import UNSUPPORTED

N1 = Language(
    functions={**COLLECTIONS, **STRINGS, **MATH, **CONVERSIONS, **BOUNDARIES},
    operators={**EQUALITY, **ARITHMETIC, "|": united},
    quantity=literal,
    unsupported=UNSUPPORTED,
)
