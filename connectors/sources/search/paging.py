"""All pages of one search:

Next links followed one by one, guarded, and begun again where the server forgot them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from connectors.errors import ExpiredError, IncompleteError, PagingError, ProtocolError, RefusedError
from connectors.fhir.bundle import Bundle, CutBundleError, Entry, NotABundleError, read_bundle
from connectors.http.client import FhirClient
from connectors.http.origin import base_of_self_link, rebase_link
from connectors.http.retry import TruncatedError

FIRST_PAGE = {
    "Cache-Control": "no-cache",  # not the answer that the server still holds from a minute ago
    "Prefer": "handling=strict",  # a parameter that is not understood is an error, not ignored
}


@dataclass(frozen=True)
class SearchLimits:
    """Limits of a search.

    page_size: `_count`. batch: patients in one search. url: characters of a URL. pages: of one window.
    restarts: of a window whose search has expired. resource: bytes of one resource. ids: `_count` where only
    ids are asked for. streams: searches at a time. history: entries of a history that are read for deletions.
    overlap: seconds before the last sync from which changes are asked for. reconcile_days: between two
    comparisons of all ids.
    """

    page_size: int = 200
    batch: int = 50
    url: int = 4_000
    pages: int = 10_000
    restarts: int = 3
    resource: int = 16 << 20
    ids: int = 1_000
    streams: int = 4
    history: int = 10_000
    overlap: float = 300.0
    reconcile_days: float = 7.0


@dataclass(frozen=True)
class Window:
    """One search, or one history.

    patients: whose resources are asked for, None for all. label: names it in messages. suffix: of the path.
    count: resources on a page, None for the usual. counted: the server is asked how many there are where its
    pages do not say it.
    """

    resource_type: str
    params: tuple[tuple[str, str], ...]
    patients: frozenset[str] | None
    label: str
    suffix: str = ""
    count: int | None = None
    counted: bool = False


class Paging:
    """Reads windows over one client, several at a time if need be."""

    def __init__(self, client: FhirClient, limits: SearchLimits) -> None:
        self._client = client
        self._limits = limits
        self._accurate = True  # until a server refuses `_total`
        self._counts = True  # until a server does not answer `_summary=count`
        self.began: str | None = None  # when the first answer was made, as its Bundle says

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

    def first(self, window: Window) -> Bundle:
        """The first page of a window alone. Raises ServerError."""
        return self._first(window)[0]

    def _walk(self, window: Window) -> Iterator[Bundle]:
        page, url = self._first(window)
        self.began = self.began or page.last_updated
        own_base = base_of_self_link(page.links.get("self"), window.resource_type + window.suffix)
        total, found, seen = page.total if self._accurate else None, distinct(page), {url}
        yield page
        while link := page.links.get("next"):
            url = rebase_link(link, url, self._client.base, own_base)
            self._check(url, seen, window)
            seen.add(url)
            page = self._next(url, window)
            found |= distinct(page)
            yield page
        if window.suffix:
            return  # the total of a history counts versions, and no server is held to it
        total = self.count(window) if total is None and window.counted else total
        if total is not None and len(found) < total:
            raise IncompleteError(
                f"{window.label}: the server announced {total} resources, its pages held {len(found)}: "
                "the next run tries again"
            )

    def _check(self, url: str, seen: set[str], window: Window) -> None:
        if url in seen:
            raise PagingError(f"{window.label}: the next links of the server lead in a loop: report it to its admin")
        if len(seen) >= self._limits.pages:
            raise PagingError(f"{window.label}: more than {self._limits.pages} pages: use smaller batches of patients")

    def _first(self, window: Window) -> tuple[Bundle, str]:
        accurate, url = self._accurate, self.url(window)
        try:
            return self._client.get_parsed(url, window.label, parse_page, FIRST_PAGE), url
        except RefusedError as error:
            if error.status != 400 or not accurate or window.suffix:
                raise
        url = self.url(window, accurate=False)  # `_total` is optional in FHIR: once more without it
        page = self._client.get_parsed(url, window.label, parse_page, FIRST_PAGE)
        self._accurate = False
        return page, url

    def _next(self, url: str, window: Window) -> Bundle:
        try:
            return self._client.get_parsed(url, window.label, parse_page)
        except RefusedError as error:
            if error.status in (404, 410):
                raise ExpiredError(
                    f"{window.label}: the search expired again and again: use smaller batches", 410
                ) from error
            raise

    def url(self, window: Window, *, accurate: bool | None = None) -> str:
        """The URL of the first page. accurate: with `_total`, None for yes until the server has refused it."""
        accurate = self._accurate if accurate is None else accurate
        total = (("_total", "accurate"),) if accurate and not window.suffix else ()
        count = ("_count", str(window.count or self._limits.page_size))
        return self._url(window, (*window.params, count, *total))

    def _url(self, window: Window, params: tuple[tuple[str, str], ...]) -> str:
        return f"{self._client.base}/{window.resource_type}{window.suffix}?{urlencode(params)}"

    def count_url(self, window: Window) -> str:
        """The URL that asks how many resources a window has."""
        return self._url(window, (*window.params, ("_summary", "count")))

    def count(self, window: Window) -> int | None:
        """How many resources a window has (`_summary=count`), None where the server does not say."""
        if not self._counts:
            return None
        url = self.count_url(window)
        try:
            page = self._client.get_parsed(url, f"count of {window.label}", parse_page, FIRST_PAGE)
        except (RefusedError, ProtocolError):
            page = None
        if page is None or page.total is None:
            self._counts = False
            return None
        return page.total


def distinct(page: Bundle) -> set[int]:
    """The resources that the server counts in `total`: not included ones, not outcomes, the same one once."""
    return {hash(_name(entry)) for entry in page.entries if entry.mode in ("", "match")}


def _name(entry: Entry) -> str | bytes:
    return entry.full_url.partition("/_history/")[0] or entry.resource


def parse_page(body: bytes) -> Bundle:
    """A page as a Bundle. TruncatedError if it is not whole, ProtocolError if it is something else."""
    try:
        return read_bundle(body)
    except CutBundleError as error:
        raise TruncatedError from error
    except NotABundleError as error:
        raise ProtocolError(
            "the server answered a search with something else than a Bundle: is `url` its base?"
        ) from error
