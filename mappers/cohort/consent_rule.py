"""The consent that a site asks for, as its configuration says it (`mappers.cohort.consent` decides by it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Coding = tuple[str, str]  # system, code


@dataclass(frozen=True)
class ConsentRule:
    """The consent that a site asks for.

    Attributes:
        site: its name.
        categories: of scope or category; a Consent with one of them is about this use of data.
        codes: what must be permitted, each of them; without codes the root rule decides.
        without: a patient without any such Consent is included or excluded.
    """

    site: str
    categories: tuple[Coding, ...]
    codes: tuple[Coding, ...]
    without: Literal["include", "exclude"]
