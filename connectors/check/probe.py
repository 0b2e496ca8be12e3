"""One request of a check, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from connectors.errors import AuthenticationError, ServerError, UnavailableError
from connectors.fhir.bundle import Bundle
from connectors.fhir.outcome import lacks_type, outcome_text
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import json_body
from connectors.http.retry import RETRIED_STATUSES, TruncatedError
from connectors.http.server_words import quoted
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.paging import FIRST_PAGE, parse_page
from connectors.sources.search.requests import SearchRequest

# Any answer is a finding here. Only what may pass is tried again, as in a sync.
ANY_STATUS = tuple(status for status in range(200, 500) if status not in RETRIED_STATUSES)


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of one request: its page, or why there is none.

    status 0: no answer. login: a web page came. lacking: the server says that it does not have the type.
    words: the end of a message with what it says.
    """

    url: str
    status: int = 0
    page: Bundle | None = None
    failure: str = ""
    login: bool = False
    lacking: bool = False
    words: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def matches(self) -> int:
        """Return the number of resources on the page that match the search."""
        entries = self.page.entries if self.page else ()
        found = [each.resource.replace(b" ", b"") for each in entries if each.resource and each.mode in ("", "match")]
        # Some servers report "nothing found" as an OperationOutcome without a search mode.
        return sum(b'"resourceType":"OperationOutcome"' not in each for each in found)

    def honoured(self, name: str) -> bool:
        """Return whether the self link repeats the parameter, as it does for those used (FHIR R4, 3.1.1.5.2)."""
        return self.page is not None and f"{name}=" in self.page.links.get("self", "")


@dataclass(eq=False)
class Prober:
    """Sends the requests of a check. dialect: how the server wants to be asked, as in a sync.

    unanswered: how many requests had no answer.
    """

    client: FhirClient
    dialect: Dialect = field(default_factory=Dialect)
    unanswered: int = 0

    def __post_init__(self) -> None:
        self.server = redact_url(self.client.base)

    def search(self, kind: str, params: Sequence[tuple[str, str]]) -> ProbeResult:
        """Return the result of a search: of several queries the first that has no page, else the one with most."""
        results = []
        for written in self.dialect.written(SearchRequest(kind, tuple(params), None, kind)):
            form = urlencode(written.params)
            post = self.dialect.post
            results.append(self.probe(f"{kind}/_search" if post else f"{kind}?{form}", kind, form if post else ""))
            # A sync that cannot read one of them cannot read the type.
            if results[-1].page is None:
                return results[-1]
        # Any of them shows whether there is something; the fullest says most about its resources.
        return max(results, key=lambda each: each.matches)

    def probe(self, path: str, label: str, form: str = "") -> ProbeResult:
        """Return the result of one request, below the base or to a next link. form: as of a search by POST."""
        url = path if path.startswith(self.client.base) else f"{self.client.base}/{path}"
        try:
            response = self.client.get(url, label, ANY_STATUS, FIRST_PAGE, form)
            page = parse_page(json_body(response, label, self.server)) if response.status == 200 else None
        except AuthenticationError as error:
            return ProbeResult(url, failure=str(error), login=True)
        except UnavailableError as error:
            self.unanswered += 1
            return ProbeResult(url, failure=str(error))
        except (ServerError, TruncatedError) as error:
            return ProbeResult(url, failure=str(error) or f"{label}: the response is cut off")
        outcome = outcome_text(response.body)
        lacking = lacks_type(response.status, outcome)
        words = quoted(outcome, f"{url}?{form}")
        return ProbeResult(url, response.status, page, lacking=lacking, words=words, headers=response.headers)
