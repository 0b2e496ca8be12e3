"""The words by which a server explains a refusal, made fit to be shown.

They help more than any guess of ours, and they may quote what was sent or stored: ids, names, tokens. What must not be
shown has no fixed form, so a word is kept only if it has the form of one that cannot be an id, a name or a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from connectors.fhir.resource_types import KNOWN

LENGTH = 200  # characters
LEFT_OUT = "…"
MAX_READ = 10_000  # characters: longer words are a document, of which the beginning will do

# Words with a capital letter may be names, so only these are shown: they begin sentences of servers, or are technical.
CAPITALIZED = frozenset(
    re.findall(
        r"\w+",
        "A Access Account Algorithm All An Any Application At Audience Authentication Authorization Backend Bad Basic "
        "Batch Bearer Bulk Cannot Certificate Client Code Content Could Credentials Data Denied Each Either Error "
        "Expected Expired Export Failed FHIR For Forbidden Found GET HAPI Header HTTP HTTPS ID If Illegal In "
        "Insufficient Internal Invalid Issuer JSON JWK JWKS JWT Key Method Missing Multiple Must NDJSON No None Not "
        "OAuth One Only Operation POST Parameter Parameters Parsing Permission Please Processing Product Query R4 R4B "
        "R5 Rate Reference Registration Request Required Requests Resource Resources Scope Scopes Search Server "
        "Service Signature SMART Subject System TLS The There These This Timeout Token Too Type Unable Unauthorized "
        "Unexpected Unknown Unrecognized Unsupported URI URL User Validation Value Version With XML You Your ",
    )
)
# `category`, `multi-patient`, `doesn't`, `grant_type`, `_lastUpdated`, `clientId`; a long one may be a token
LOWER = re.compile(r"_?(?=.{1,24}$)[^\W\d_]+(?:[-_'’][^\W\d_]+)*")
CAMEL = re.compile(r"_?[a-z]{2,}(?:[A-Z][a-z]+){0,3}")
HEX = re.compile(r"[a-f]{6,}")  # a hash may by chance be without digits
NUMBER = re.compile(r"\d{1,3}")  # a status or a limit; years and dates are more
SCOPE = re.compile(r"(?:system|user|patient)/(?:\*|[A-Z][A-Za-z]+)\.(?:read|write|\*|c?r?u?d?s?)")
PUNCTUATION = " .,;:!?\"'`“”‘’«»()[]{}<>*#"
SEPARATOR = re.compile(r"\s+|(?<=[,;])")


def quoted(text: str | None, url: str = "") -> str:
    """Return the end of a message with the words of a server, '' if none can be shown. `url`: what was asked.

    >>> quoted("Patient/4711 of Smith: search needs a 'category'")
    '; it says "… of … search needs a category"'
    >>> quoted("Smith")
    ''
    """
    words = server_words(text or "", url)
    return f'; it says "{words}"' if any(each.isalpha() for each in words) else ""


def server_words(text: str, url: str = "") -> str:
    """Return `text` as one line of 200 characters at most, in which `…` stands for each word that may be a secret.

    Left out are ids, references, numbers of more than three digits, addresses, names, and the values that `url` asks
    for. Words in lower case are kept: a name that a server writes so cannot be told from a word.
    """
    hidden = frozenset(_values(url))
    shown: list[str] = []
    for raw in SEPARATOR.split(text[:MAX_READ]):
        word = raw.strip(PUNCTUATION)
        if not word:
            continue
        if _harmless(word) and word.lower() not in hidden:
            shown.append(word + raw[-1] if raw[-1] in ".,:;" else word)
        elif shown[-1:] != [LEFT_OUT]:
            shown.append(LEFT_OUT)
    line = " ".join(shown)
    return line if len(line) <= LENGTH else line[: LENGTH - 1].rpartition(" ")[0] + LEFT_OUT


def _harmless(word: str) -> bool:
    if word in KNOWN or word in CAPITALIZED or NUMBER.fullmatch(word) or SCOPE.fullmatch(word):
        return True
    first, *path = word.split(".")
    if first in KNOWN:  # `Observation.category`, an element
        return all(len(each) <= 24 and CAMEL.fullmatch(each) for each in path)
    if HEX.fullmatch(word) or len(word) > 32:
        return False
    return (word == word.lower() and bool(LOWER.fullmatch(word))) or bool(CAMEL.fullmatch(word))


def _values(url: str) -> Iterator[str]:
    """Yield what a URL asks for: the segments of its path and the values of its parameters, in lower case."""
    parts = urlsplit(url)
    for text in (parts.path, *(value for _, value in parse_qsl(parts.query))):
        yield from (each.lower() for each in re.split(r"[/|,\s]+", text) if each and each not in KNOWN)
