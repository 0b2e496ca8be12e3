"""The check of next links: whether they lead to the next page, on this server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.check import admin_requests
from connectors.check.findings import Finding, FindingLevel
from connectors.check.probe import Prober, ProbeResult
from connectors.errors import ForeignOriginError
from connectors.fhir.bundle import Bundle
from connectors.http.origin import base_of_self_link, rebase_link, redact_url


def paging_findings(prober: Prober, pages: Sequence[tuple[str, ProbeResult]]) -> Iterator[Finding]:
    """Follow the first next link among `pages`, results of searches by their type."""
    for kind, result in pages:
        if result.page is not None and (link := result.page.links.get("next")):
            yield _next_page(prober, kind, result, result.page, link)
            return
    if any(result.page is not None and (result.page.total or 0) > 1 for _, result in pages):
        message = "the server announces more resources than its first page holds, and gives no next link"
        request = admin_requests.repair_paging(prober.server, "there are none")
        yield Finding("paging", FindingLevel.MISSING, message, request=request)
    else:
        yield Finding("paging", FindingLevel.NOTE, "no search here has a second page to try")


def _next_page(prober: Prober, kind: str, result: ProbeResult, page: Bundle, link: str) -> Finding:
    own_base = base_of_self_link(page.links.get("self"), kind)
    try:
        url = rebase_link(link, result.url, prober.client.base, own_base)
    except ForeignOriginError as error:
        request = admin_requests.correct_links(prober.server, _redact_link(link))
        return Finding("paging", FindingLevel.MISSING, str(error), request=request)
    second = prober.probe(url, f"second page of {kind}")
    if second.page is None:
        message = f"following a next link fails: {second.failure or f'status {second.status}'}"
        reason = f"following one ends with status {second.status or 'none'}"
    # Some servers ignore the parameters of their own next links. A sync would never come to an end.
    elif page.entries and [each.resource for each in page.entries] == [each.resource for each in second.page.entries]:
        message = reason = "a next link leads to the same page again"
    elif own_base and not prober.client.base.startswith(own_base):
        message = f"next links name {redact_url(own_base)} and are requested from {prober.server}"
        return Finding("paging", FindingLevel.OK, message)
    else:
        return Finding("paging", FindingLevel.OK, "a next link leads to the next page")
    request = admin_requests.repair_paging(prober.server, reason)
    return Finding("paging", FindingLevel.MISSING, message, request=request)


def _redact_link(link: str) -> str:
    try:
        return redact_url(link)
    except ForeignOriginError:
        return "something that is not an http(s) address"
