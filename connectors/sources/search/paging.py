"""Reads all pages of a search: follows the next links, and begins again where the server forgot the search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlencode

from connectors.errors import EmptyPagesError, ExpiredError, IncompleteError, PagingError, ProtocolError, RefusedError
from connectors.fhir.bundle import Bundle, CutBundleError, NotABundleError, read_bundle
from connectors.fhir.outcome import lacks_type
from connectors.http.client import FhirClient
from connectors.http.origin import base_of_self_link, rebase_link
from connectors.http.retry import TruncatedError
from connectors.sources.search.dialect import Dialect, Params
from connectors.sources.search.requests import SearchLimits, SearchRequest

FIRST_PAGE = {
    "Cache-Control": "no-cache",  # not the answer that the server still holds from a minute ago
    "Prefer": "handling=strict",  # a parameter that is not understood is an error, not ignored
}
ENDLESS = (
    "{}: 3 pages in a row hold nothing and have a next link, so it was ended there: "
    "report it to the server's administrator"
)
SUMMARY = ("_summary", "count")
FHIR_R4 = Dialect()
EMPTY_PAGES = 3  # in a row, each with a next link: a filter may empty a page or two, more of them have no end


class Paging:
    """Reads the pages of searches over one client, in the words of its server. Several threads may use it."""

    def __init__(self, client: FhirClient, limits: SearchLimits, dialect: Dialect = FHIR_R4) -> None:
        self._client = client
        self._limits = limits
        self.dialect = dialect
        self._accurate = True  # until a server refuses `_total`
        self._counts = True  # until a server does not answer `_summary=count`
        self.began: str | None = None  # when the first answer was made, as its Bundle says
        self.hidden: set[str] = set()  # types of `limits.fewer` of which fewer came than announced
        self.endless: set[str] = set()  # types whose pages after the last resource have no end
        self.own_base: str | None = None  # by which the server calls itself

    def pages(self, request: SearchRequest) -> Iterator[Bundle]:
        """Yield every page of a search; from the first one again (duplicates included) if a next link has expired.

        Raises:
            ServerError: a page cannot be read.
            IncompleteError: after the last page, if the server had announced more.
        EmptyPagesError: after a few pages without entries, if more was announced or nobody knows.
        """
        incomplete: IncompleteError | None = None
        for written in self.dialect.written(request):
            try:
                yield from self._all_pages(written)
            except IncompleteError as error:  # of one query: the others are read for that all the more
                incomplete = incomplete or error
        if incomplete:
            raise incomplete

    def _all_pages(self, request: SearchRequest) -> Iterator[Bundle]:
        # Servers drop a search that is paged slowly. What comes twice is identical and costs only time.
        for _ in range(self._limits.restarts):
            try:
                yield from self._walk(request)
            except ExpiredError:
                continue
            return
        yield from self._walk(request)

    def first(self, request: SearchRequest) -> Bundle:
        """Return the first page alone, of several queries that of the first. Raises ServerError."""
        return self._first(self.dialect.written(request)[0])[0]

    def _walk(self, request: SearchRequest) -> Iterator[Bundle]:
        cut: list[str] = []  # pages of which the server says that something is missing
        page, url = self._first(request, partial=lambda: cut.append(request.label))
        # The first page alone: its Bundle was made before everything that follows.
        self.began = self.began or page.last_updated
        # After a POST the self link may name `_search` or not.
        own = (page.links.get("self") or "").replace(f"{request.resource_type}/_search", request.resource_type)
        own_base = base_of_self_link(own, request.resource_type + request.suffix)
        self.own_base = self.own_base or own_base
        total, found, seen = page.total if self._accurate else None, distinct(page), {url}
        empty = 0 if page.entries else 1
        yield page
        while (link := page.links.get("next")) and empty < EMPTY_PAGES:
            # A server behind a proxy names its own address in the links, and one that was attacked may name any: the
            # page is asked for at the configured base, or refused.
            url = rebase_link(link, url, self._client.base, own_base)
            self._check(url, seen, request)
            seen.add(url)
            page = self._next(url, request, lambda: cut.append(request.label))
            found |= distinct(page)
            empty = 0 if page.entries else empty + 1
            yield page
        if cut:
            raise IncompleteError(
                f"{request.label}: the server gave only a part of {len(cut)} pages (206): the next run tries again"
            )
        endless = empty >= EMPTY_PAGES and bool(link)
        if request.suffix and endless:
            raise EmptyPagesError(ENDLESS.format(request.label))
        if request.suffix:
            return  # the total of a history counts versions, and no server is held to it
        # More than announced is no error: resources are created while the pages are read. Fewer means a page was lost.
        total = self._count(request) if total is None and (request.counted or endless) else total
        if endless and (total is None or len(found) < total):
            raise EmptyPagesError(ENDLESS.format(request.label))
        if endless:
            self.endless.add(request.resource_type)
        if total is not None and len(found) < total and request.resource_type in self._limits.fewer:
            self.hidden.add(request.resource_type)
        elif total is not None and len(found) < total:
            raise IncompleteError(
                f"{request.label}: the server announced {total} resources, its pages held {len(found)}: "
                "the next run tries again"
            )

    def _check(self, url: str, seen: set[str], request: SearchRequest) -> None:
        if url in seen:
            raise PagingError(f"{request.label}: the next links of the server lead in a loop: report it to its admin")
        if len(seen) >= self._limits.pages:
            raise PagingError(f"{request.label}: more than {self._limits.pages} pages: use smaller batches of patients")

    def _first(self, request: SearchRequest, partial: Callable[[], None] | None = None) -> tuple[Bundle, str]:
        accurate, (url, form) = self._accurate, self._place(request, self._first_page(request))
        try:
            return self._client.get_parsed(url, request.label, parse_page, FIRST_PAGE, partial, form), url
        except RefusedError as error:
            if error.status != 400 or not accurate or request.suffix:
                raise
        # `_total` is optional in FHIR: once more without it
        url, form = self._place(request, self._first_page(request, accurate=False))
        page = self._client.get_parsed(url, request.label, parse_page, FIRST_PAGE, partial, form)
        # Only now, for a query that is wrong for another reason is refused a second time too.
        self._accurate = False
        return page, url

    def _next(self, url: str, request: SearchRequest, partial: Callable[[], None]) -> Bundle:
        try:
            return self._client.get_parsed(url, request.label, parse_page, partial=partial)
        except RefusedError as error:
            # HAPI says 410 when a search has expired, others 404.
            if error.status in (404, 410):
                raise ExpiredError(
                    f"{request.label}: the search expired again and again: use smaller batches", 410
                ) from error
            raise

    def urls(self, request: SearchRequest) -> tuple[str, ...]:
        """Return the URLs of the first pages, one for each query. A search by POST has its parameters here too."""
        return tuple(self._url(each, self._first_page(each)) for each in self.dialect.written(request))

    def count_urls(self, request: SearchRequest) -> tuple[str, ...]:
        """Return the URLs that ask how many resources a search has."""
        return tuple(self._url(each, (*each.params, SUMMARY)) for each in self.dialect.written(request))

    def method(self, request: SearchRequest) -> str:
        """Return the HTTP method of a request: a history is always read by GET."""
        return "POST" if self.dialect.post and not request.suffix else "GET"

    def _first_page(self, request: SearchRequest, *, accurate: bool | None = None) -> Params:
        """Return the parameters of the first page, with `_total` if `accurate` (None: until the server refused it)."""
        accurate = self._accurate if accurate is None else accurate
        total = (("_total", "accurate"),) if accurate and not request.suffix else ()
        return (*request.params, ("_count", str(request.count or self._limits.page_size)), *total)

    def _place(self, request: SearchRequest, params: Params) -> tuple[str, str]:
        """Return the URL to ask, and the form to send to it ('' for a GET)."""
        # The URL alone tells the log of a proxy nothing then.
        if self.method(request) == "GET":
            return self._url(request, params), ""
        return f"{self._client.base}/{request.resource_type}/_search", urlencode(params)

    def _url(self, request: SearchRequest, params: Params) -> str:
        suffix = "/_search" if self.method(request) == "POST" else request.suffix
        return f"{self._client.base}/{request.resource_type}{suffix}?{urlencode(params)}"

    def count(self, request: SearchRequest) -> int | None:
        """Return how many resources a search has (`_summary=count`), None where the server does not say.

        Of several queries the sum: a resource that two of them find counts twice.
        """
        counts = self.counts(request)
        return None if None in counts else sum(each or 0 for each in counts)

    def counts(self, request: SearchRequest) -> tuple[int | None, ...]:
        """Return how many resources each of the queries of a search has."""
        return tuple(self._count(each) for each in self.dialect.written(request))

    def _count(self, request: SearchRequest) -> int | None:
        if not self._counts:
            return None
        url, form = self._place(request, (*request.params, SUMMARY))
        try:
            page = self._client.get_parsed(url, f"count of {request.label}", parse_page, FIRST_PAGE, form=form)
        except (RefusedError, ProtocolError) as error:
            if isinstance(error, RefusedError) and lacks_type(error.status, error.outcome):
                return 0
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
