"""Functions of the standards that a view may not use, and the reason that the error gives."""

from __future__ import annotations

CLOCK = "a view must give the same rows whenever it is run; give the day as a constant"
ONE_RESOURCE = "a view sees one resource at a time"
TERMINOLOGY = "a view asks no terminology server; compare with the codes, or join a table of codes"
OPEN_TYPE = "its result has no single type"
AGGREGATES = "use the aggregation of the database on the rows of the view"
PROFILES = "a view holds no profiles; use validate before"
TEXTS = "use the functions of the database on the rows of the view"
PARTS_OF_A_DATE = "use toString().substring()"
UNSUPPORTED = {
    "now": CLOCK,
    "today": CLOCK,
    "timeOfDay": CLOCK,
    "resolve": f"{ONE_RESOURCE}; join on getReferenceKey() instead",
    "memberOf": TERMINOLOGY,
    "subsumes": TERMINOLOGY,
    "subsumedBy": TERMINOLOGY,
    "children": OPEN_TYPE,
    "descendants": OPEN_TYPE,
    "repeat": "a type inside itself has no end in a path; use the repeat of a select",
    "aggregate": AGGREGATES,
    "sum": AGGREGATES,
    "min": AGGREGATES,
    "max": AGGREGATES,
    "avg": AGGREGATES,
    "type": "types are known when a view is compiled; use is, as and ofType()",
    "conformsTo": PROFILES,
    "elementDefinition": PROFILES,
    "slice": PROFILES,
    "checkModifiers": PROFILES,
    "htmlChecks": PROFILES,
    "comparable": "compare the units of the quantities",
    "coalesce": "use iif()",
    "defineVariable": "use a constant of the view, or select()",
    "precision": "compare the lengths of the texts",
    "sort": "a collection keeps the order of the resource; sort the rows of the view",
    "encode": TEXTS,
    "decode": TEXTS,
    "escape": TEXTS,
    "unescape": TEXTS,
    "lastIndexOf": "use split()",
    "yearOf": PARTS_OF_A_DATE,
    "monthOf": PARTS_OF_A_DATE,
    "dayOf": PARTS_OF_A_DATE,
}
