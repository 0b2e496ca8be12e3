"""Words of a server, as they are shown: whatever it quotes, no id, name or secret of it is in the line."""

from __future__ import annotations

import base64
import string

from hypothesis import given
from hypothesis import strategies as st

from connectors.fhir.resource_types import KNOWN
from connectors.http.server_words import CAPITALIZED, LENGTH, quoted, server_words

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
# Of the sentence around a secret. None of these letters can be taken for a part of one.
PLAIN = st.sampled_from(
    ["no", "search", "for", "is", "not", "allowed", "Unknown", "Resource", "Patient", "(400)", "'x'"]
)
AROUND = st.sampled_from(["{}", "'{}'", '"{}"', "({}),", "[{}]", "<{}>", "{}.", "{}:", "`{}`;"])


def _hidden() -> st.SearchStrategy[str]:
    ids = st.text(LETTERS_AND_DIGITS + "-.", min_size=6, max_size=90).filter(
        lambda each: any(c.isdigit() for c in each)
    )
    ids = ids.filter(lambda each: len(each.strip(".-")) > 5 and any(c.isdigit() for c in each.strip(".-")))
    ids = ids.map(lambda each: "q" + each.strip(".-") + "7")
    types = st.sampled_from(sorted(KNOWN))
    names = st.text(string.ascii_lowercase, min_size=2, max_size=12).map(str.title)
    names = names.filter(lambda each: each not in KNOWN | CAPITALIZED)
    random = st.binary(min_size=24, max_size=200)
    return st.one_of(
        st.uuids().map(str),
        ids,
        st.builds("{}/{}".format, types, ids),
        st.builds("{}?identifier={}".format, types, ids),
        st.integers(min_value=1000, max_value=10**40).map(str),
        st.dates().map(str),
        names,
        st.builds("{}-{}".format, names, names),
        st.builds("{}@{}.org".format, names.map(str.lower), names.map(str.lower)),
        random.map(bytes.hex),
        random.map(lambda each: base64.b64encode(each).decode()),
        random.map(lambda each: "eyJ" + base64.urlsafe_b64encode(each).decode().rstrip("=") + ".eyJ4.c2ln"),
    )


@given(st.lists(PLAIN, max_size=12), _hidden(), AROUND, st.lists(PLAIN, max_size=60))
def test_no_secret_is_shown_whatever_stands_around_it(
    before: list[str], secret: str, around: str, after: list[str]
) -> None:
    line = server_words(" ".join([*before, around.format(secret), *after]))
    assert secret not in line
    assert secret.lower() not in line.lower().split()
    assert len(line) <= LENGTH


@given(st.text(max_size=600))
def test_a_line_is_short_and_printable_whatever_the_server_sends(text: str) -> None:
    line = quoted(text).removeprefix('; it says "').removesuffix('"')
    assert len(line) <= LENGTH
    assert line.isprintable()
    assert server_words(line) == line  # what is shown is harmless, so it stays as it is


@given(st.text(string.ascii_lowercase, min_size=2, max_size=20))
def test_the_id_that_was_asked_for_is_not_repeated(identifier: str) -> None:
    """An id that looks like a word is known from the request."""
    url = f"https://fhir.example.org/fhir/Condition?subject=Patient/other,Patient/{identifier}"
    line = server_words(f"no access to Patient {identifier}!", url)
    assert line.endswith(" Patient …")
    assert identifier not in line.split()
