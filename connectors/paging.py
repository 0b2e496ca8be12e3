"""All pages of one search:

Next links followed one by one, guarded, and begun again where the server forgot them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from connectors.bundle import Bundle, CutBundleError, NotABundleError, read_bundle
from connectors.errors import ExpiredError, IncompleteError, PagingError, ProtocolError, RefusedError
from connectors.origin import rebased, server_base
from connectors.transport import CutError, Transport

FIRST_PAGE = {
    "Cache-Control": "no-cache",  # not the answer that the server still holds from a minute ago
    "Prefer": "handling=strict",  # a parameter that is not understood is an error, not ignored
}


@dataclass(frozen=True)
class SearchLimits:
    """Limits of a search.

    page_size: `_count`. batch: patients in one search. url: characters of a URL. pages: of one window.
    restarts: of a window whose search has expired. resource: bytes of one resource.
    """

    page_size: int = 200
    batch: int = 50
    url: int = 4_000
    pages: int = 10_000
    restarts: int = 3
    resource: int = 16 << 20


@dataclass(frozen=True)
class Window:
    """One search. `patients`:

    Whose resources are asked for, None for the cohort query. `label` names it in messages.
    """

    resource_type: str
    params: tuple[tuple[str, str], ...]
    patients: frozenset[str] | None
    label: str


class Paging:
    """Reads windows over one transport."""

    def __init__(self, transport: Transport, limits: SearchLimits) -> None:
        self._transport = transport
        self._limits = limits
        self._accurate = True  # until a server refuses `_total`

    def pages(self, window: Window) -> Iterator[Bundle]:
        """Every page of a window; from the first one again (duplicates included) if a next link has expired.

        Raises ServerError; IncompleteError, after the last page, if the server had promised more.
        """
        for _ in range(self._limits.restarts):
            try:
                yield from self._walk(window)
            except ExpiredError:
                continue
            return
        yield from self._walk(window)

    def _walk(self, window: Window) -> Iterator[Bundle]:
        page, url = self._first(window)
        own_base = server_base(page.links.get("self"), window.resource_type)
        total, matches, seen = page.total if self._accurate else None, page.matches, {url}
        yield page
        while link := page.links.get("next"):
            url = rebased(link, url, self._transport.base, own_base)
            self._check(url, seen, window)
            seen.add(url)
            page = self._next(url, window)
            matches += page.matches
            yield page
        if total is not None and matches < total:
            raise IncompleteError(
                f"{window.label}: the server announced {total} resources, its pages held {matches}: "
                "the next run tries again"
            )

    def _check(self, url: str, seen: set[str], window: Window) -> None:
        if url in seen:
            raise PagingError(f"{window.label}: the next links of the server lead in a loop: report it to its admin")
        if len(seen) >= self._limits.pages:
            raise PagingError(f"{window.label}: more than {self._limits.pages} pages: use smaller batches of patients")

    def _first(self, window: Window) -> tuple[Bundle, str]:
        url = self.url(window)
        try:
            return self._transport.get(url, window.label, parse_page, FIRST_PAGE), url
        except RefusedError as error:
            if error.status != 400 or not self._accurate:
                raise
            self._accurate = False  # `_total` is optional in FHIR: once more without it
            return self._first(window)

    def _next(self, url: str, window: Window) -> Bundle:
        try:
            return self._transport.get(url, window.label, parse_page)
        except RefusedError as error:
            if error.status in (404, 410):
                raise ExpiredError(
                    f"{window.label}: the search expired again and again: use smaller batches", 410
                ) from error
            raise

    def url(self, window: Window) -> str:
        """The URL of the first page."""
        total = (("_total", "accurate"),) if self._accurate else ()
        query = urlencode((*window.params, ("_count", str(self._limits.page_size)), *total))
        return f"{self._transport.base}/{window.resource_type}?{query}"


def parse_page(body: bytes) -> Bundle:
    """A page as a Bundle. CutError if it is not whole, ProtocolError if it is something else."""
    try:
        return read_bundle(body)
    except CutBundleError as error:
        raise CutError from error
    except NotABundleError as error:
        raise ProtocolError(
            "the server answered a search with something else than a Bundle: is `url` its base?"
        ) from error
