"""The text of FHIR R4 dates and times as regular expressions, in the syntax that Python, RE2 (DuckDB) and Java share.

They count digits, without anchors. A conversion finds out that a date is not one of the calendar. (The expressions of
R4 also bound each part, and still let 31 February pass.)
Source: FHIR R4, https://hl7.org/fhir/R4/datatypes.html#date and what follows there.
"""

from __future__ import annotations

YEAR = "[0-9]{4}"
MONTH = f"{YEAR}-[0-9]{{2}}"
DAY = f"{MONTH}-[0-9]{{2}}"
DATE = f"{YEAR}(-[0-9]{{2}}(-[0-9]{{2}})?)?"
ZONE = "(Z|[+-][0-9]{2}:[0-9]{2})"
TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
INSTANT = f"{DAY}T{TIME}{ZONE}"
DATE_TIME = f"({DATE}|{INSTANT})"

# Beyond R4: FHIRPath also has times without seconds, without minutes, and dateTimes without a zone (N1, 4.1.7).
TIME_TO_MINUTE = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
TIME_TO_HOUR = r"[0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?"
# The same with bounds, where no conversion of the time follows that would find out.
BOUNDED_TIME = r"([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?)?"
BOUNDED_ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

DAY_LENGTH = len("2024-01-31")  # characters: what is longer has a time
