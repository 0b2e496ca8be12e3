"""Modifier extensions: what one says may negate the rest of a resource (FHIR R4 2.4.0.1).

A resource with a modifier extension that is not understood stays in the lake and is not used. One that says no more
than what the program reads anyway, or tolerates, is listed by its URL in ``modifier_extensions.txt``.
"""

from __future__ import annotations

import re
from importlib.resources import files

MODIFIER = '"modifierExtension"'  # in the text of a resource

KNOWN = tuple(
    line
    for line in files("connectors.fhir").joinpath("modifier_extensions.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)

# An array of one known extension with a coded value and nothing else. Both SQL engines must read it, so it may not look
# ahead; text that is written in another way is not understood, which errs on the safe side.
_URL = r'"url"\s*:\s*"(?:' + "|".join(map(re.escape, KNOWN)) + r')"'
_CODED = r'"valueCodeableConcept"\s*:\s*\{\s*"coding"\s*:\s*\[\s*\{[^\[\]{}]*\}\s*\]\s*\}'
UNDERSTOOD = rf"{MODIFIER}\s*:\s*\[\s*\{{\s*(?:{_URL}\s*,\s*{_CODED}|{_CODED}\s*,\s*{_URL})\s*\}}\s*\]"
_understood = re.compile(UNDERSTOOD)


def is_modified(text: str) -> bool:
    """Return True if a modifier extension that is not understood is anywhere in the text of a resource."""
    # The first search is three times as fast, and fails.
    return "modifierE" in text and MODIFIER in text and MODIFIER in _understood.sub("", text)
