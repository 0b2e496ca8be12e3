"""Terminology: which codes and texts mean what, from FHIR ValueSets and ConceptMaps.

    from mappers.terminology import load_terminology

`systems` knows the code systems by all their names, `rules` reads one file, `loading` puts the shipped files and the
hospital's own together, `matching` compares codings with them in SQL.
"""

from mappers.terminology.loading import SHIPPED, load_terminology, unexpanded, value_set_file
from mappers.terminology.matching import Terminology, meanings

__all__ = ["SHIPPED", "Terminology", "load_terminology", "meanings", "unexpanded", "value_set_file"]
