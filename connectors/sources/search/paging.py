"""Reads all pages of a search: follows the next links, and begins again where the server forgot the search."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

from connectors.errors import ExpiredError, IncompleteError, PagingError, ProtocolError, RefusedError
from connectors.fhir.bundle import Bundle, CutBundleError, NotABundleError, read_bundle
from connectors.http.client import FhirClient
from connectors.http.origin import base_of_self_link, rebase_link
from connectors.http.retry import TruncatedError
from connectors.sources.search.requests import SearchLimits, SearchRequest

FIRST_PAGE = {
    "Cache-Control": "no-cache",  # not the answer that the server still holds from a minute ago
    "Prefer": "handling=strict",  # a parameter that is not understood is an error, not ignored
}


class Paging:
    """Reads the pages of searches over one client. Several threads may use it."""

    def __init__(self, client: FhirClient, limits: SearchLimits) -> None:
        self._client = client
        self._limits = limits
        self._accurate = True  # until a server refuses `_total`
        self._counts = True  # until a server does not answer `_summary=count`
        self.began: str | None = None  # when the first answer was made, as its Bundle says

    def pages(self, request: SearchRequest) -> Iterator[Bundle]:
        """Yield every page of a search; from the first one again (duplicates included) if a next link has expired.

        Raises:
            ServerError: a page cannot be read.
            IncompleteError: after the last page, if the server had announced more.
        """
        # Servers drop a search that is paged slowly. What comes twice is identical and costs only time.
        for _ in range(self._limits.restarts):
            try:
                yield from self._walk(request)
            except ExpiredError:
                continue
            return
        yield from self._walk(request)

    def first(self, request: SearchRequest) -> Bundle:
        """Return the first page alone. Raises ServerError."""
        return self._first(request)[0]

    def _walk(self, request: SearchRequest) -> Iterator[Bundle]:
        page, url = self._first(request)
        # The first page alone: its Bundle was made before everything that follows.
        self.began = self.began or page.last_updated
        own_base = base_of_self_link(page.links.get("self"), request.resource_type + request.suffix)
        total, found, seen = page.total if self._accurate else None, distinct(page), {url}
        yield page
        while link := page.links.get("next"):
            # A server behind a proxy names its own address in the links, and one that was attacked may name any: the
            # page is asked for at the configured base, or refused.
            url = rebase_link(link, url, self._client.base, own_base)
            self._check(url, seen, request)
            seen.add(url)
            page = self._next(url, request)
            found |= distinct(page)
            yield page
        if request.suffix:
            return  # the total of a history counts versions, and no server is held to it
        # More than announced is no error: resources are created while the pages are read. Fewer means a page was lost.
        total = self.count(request) if total is None and request.counted else total
        if total is not None and len(found) < total:
            raise IncompleteError(
                f"{request.label}: the server announced {total} resources, its pages held {len(found)}: "
                "the next run tries again"
            )

    def _check(self, url: str, seen: set[str], request: SearchRequest) -> None:
        if url in seen:
            raise PagingError(f"{request.label}: the next links of the server lead in a loop: report it to its admin")
        if len(seen) >= self._limits.pages:
            raise PagingError(f"{request.label}: more than {self._limits.pages} pages: use smaller batches of patients")

    def _first(self, request: SearchRequest) -> tuple[Bundle, str]:
        accurate, url = self._accurate, self.url(request)
        try:
            return self._client.get_parsed(url, request.label, parse_page, FIRST_PAGE), url
        except RefusedError as error:
            if error.status != 400 or not accurate or request.suffix:
                raise
        url = self.url(request, accurate=False)  # `_total` is optional in FHIR: once more without it
        page = self._client.get_parsed(url, request.label, parse_page, FIRST_PAGE)
        # Only now, for a query that is wrong for another reason is refused a second time too.
        self._accurate = False
        return page, url

    def _next(self, url: str, request: SearchRequest) -> Bundle:
        try:
            return self._client.get_parsed(url, request.label, parse_page)
        except RefusedError as error:
            # HAPI says 410 when a search has expired, others 404.
            if error.status in (404, 410):
                raise ExpiredError(
                    f"{request.label}: the search expired again and again: use smaller batches", 410
                ) from error
            raise

    def url(self, request: SearchRequest, *, accurate: bool | None = None) -> str:
        """Return the URL of the first page, with `_total` if `accurate` (None: until the server has refused it)."""
        accurate = self._accurate if accurate is None else accurate
        total = (("_total", "accurate"),) if accurate and not request.suffix else ()
        count = ("_count", str(request.count or self._limits.page_size))
        return self._url(request, (*request.params, count, *total))

    def _url(self, request: SearchRequest, params: tuple[tuple[str, str], ...]) -> str:
        return f"{self._client.base}/{request.resource_type}{request.suffix}?{urlencode(params)}"

    def count_url(self, request: SearchRequest) -> str:
        """Return the URL that asks how many resources a search has."""
        return self._url(request, (*request.params, ("_summary", "count")))

    def count(self, request: SearchRequest) -> int | None:
        """Return how many resources a search has (`_summary=count`), None where the server does not say."""
        if not self._counts:
            return None
        url = self.count_url(request)
        try:
            page = self._client.get_parsed(url, f"count of {request.label}", parse_page, FIRST_PAGE)
        except (RefusedError, ProtocolError):
            # A server that cannot count is not asked again, but it is no reason to stop.
            page = None
        if page is None or page.total is None:
            self._counts = False
            return None
        return page.total


def distinct(page: Bundle) -> set[int]:
    """Return hashes of what the server counts in `total`: matches, not includes or outcomes, each resource once."""
    matches = (entry for entry in page.entries if entry.mode in ("", "match"))
    return {hash(entry.full_url.partition("/_history/")[0] or entry.resource) for entry in matches}


def parse_page(body: bytes) -> Bundle:
    """Return a page as a Bundle. Raise TruncatedError if it is not whole, ProtocolError if it is something else."""
    try:
        return read_bundle(body)
    except CutBundleError as error:
        raise TruncatedError from error
    except NotABundleError as error:
        raise ProtocolError(
            "the server answered a search with something else than a Bundle: is `url` its base?"
        ) from error
