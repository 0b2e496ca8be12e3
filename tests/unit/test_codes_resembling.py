"""The shipped concept that a hospital's display resembles: by the letters that they share, never by guessing."""

from __future__ import annotations

import pytest

from mappers.codes.resembling import Concept, Finder, concepts, trigrams
from mappers.terminology import SHIPPED

ALL = frozenset({"smoking-status", "nsclc", "recist"})
KNOWN = [
    Concept("smoking-status", "http://snomed.info/sct", "266919005", "Never smoked tobacco", "NEVER"),
    Concept("recist", "http://example.org/ncit", "C18213", "Stable Disease", "SD"),
    Concept("nsclc", "http://example.org/sct", "254637007", "Non-small cell lung cancer (disorder)", None),
    Concept("nsclc", "http://example.org/icd", "C34.1", "", None),
]


def found(code: str | None, text: str | None, names: frozenset[str] = ALL) -> tuple[str, str] | None:
    resembling = Finder(KNOWN).resembling(code, text, names)
    return resembling and (resembling.concept.name, resembling.concept.code)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("n", "Never smoked", ("smoking-status", "266919005")),
        (None, "STABLE  DISEASE (SD)", ("recist", "C18213")),
        ("x1", "Lung cancer, non small cell", ("nsclc", "254637007")),
        ("c341", None, ("nsclc", "C34.1")),  # the same code in another system, without its dot
        ("x1", "Small cell lung cancer", None),  # the opposite, by one word
        ("x2", "Colon cancer", None),
        ("x3", "", None),
        ("x4", None, None),
    ],
)
def test_what_a_code_resembles(code: str | None, text: str | None, expected: tuple[str, str] | None) -> None:
    assert found(code, text) == expected


def test_only_what_is_asked_of_the_element_is_compared() -> None:
    assert found("n", "Never smoked", frozenset({"recist"})) is None


def test_a_short_code_says_nothing_by_itself() -> None:
    known = [Concept("ecog", "http://example.org", "1", "", "1")]
    assert Finder(known).resembling("1", None, frozenset({"ecog"})) is None


def test_letters_are_compared_in_threes() -> None:
    assert trigrams("Ab c") == {" ab", "ab ", " c "}
    assert trigrams("größe") == trigrams("GROESSE")


def test_the_concepts_of_the_shipped_files() -> None:
    shipped = concepts(sorted(SHIPPED.glob("*.json")))
    assert {"nsclc", "recist", "ecog"} <= {concept.name for concept in shipped}
    assert any(each.name == "recist" and each.target == "PR" for each in shipped)
