"""The tree of errors. Each says what happened, where, and what to do; none quotes the content of a resource.

ConnectorError
├── SourceConfigError        the url, the path or the site name cannot be used: correct the configuration
├── FolderError              the folder is missing, empty or unreadable
├── AuthenticationError      401, or a login page instead of FHIR
├── ServerError              the server could not be read
│   ├── UnavailableError     no usable answer after all attempts
│   │   └── DeferredError    it asks to wait for longer than this run may last
│   ├── RefusedError         4xx, with its status
│   │   └── ExpiredError     404 or 410 on a next link: the window starts again
│   ├── ForeignOriginError   a link or a redirect leads to another origin
│   ├── PagingError          next links in a loop, or too many pages
│   │   └── IncompleteError  fewer resources than the server announced
│   ├── ProtocolError        the answer is not a FHIR search result
│   ├── TlsError             no encrypted connection: a certificate that is not trusted, or is missing
│   └── TooLargeError        the answer is over the size limit
├── SandboxError             a test server cannot take the invented patients, or cannot tell them from others
├── LakeError                the lake cannot be read or written
├── SpoolError               no room for the rows or the quarantine of this run
└── AccountingError          received is not the sum of what became of it: a bug, nothing was stored
"""

from __future__ import annotations


class ConnectorError(Exception):
    """The base of everything that `connectors` raises on purpose."""


class SourceConfigError(ConnectorError):
    """The url, the path or the name of a site cannot be used."""


class FolderError(ConnectorError):
    """The folder is missing, holds nothing to read, or may not be read."""


class AuthenticationError(ConnectorError):
    """The server does not accept the credentials (401), or shows a login page."""


class ServerError(ConnectorError):
    """The server could not be read."""


class UnavailableError(ServerError):
    """No usable answer after all attempts, or the deadline of the run is over."""


class DeferredError(UnavailableError):
    """The server asks to wait for longer than this run may last."""


class RefusedError(ServerError):
    """The server answered 4xx. `status` is that number."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ExpiredError(RefusedError):
    """404 or 410 on a next link: the server has forgotten this search."""


class ForeignOriginError(ServerError):
    """A link or a redirect leads to an origin that is not the configured one."""


class PagingError(ServerError):
    """Next links lead in a loop, or to more pages than allowed."""


class IncompleteError(PagingError):
    """The pages held fewer resources than the server had announced."""


class ProtocolError(ServerError):
    """The answer is not what the FHIR RESTful API promises."""


class TlsError(ServerError):
    """No encrypted connection can be made: trying again is useless until a certificate is configured."""


class TooLargeError(ServerError):
    """The answer is over the size limit."""


class SandboxError(ConnectorError):
    """A server cannot take the resources of a sandbox, or could not give them back."""


class LakeError(ConnectorError):
    """The lake cannot be read or written. It is never reset silently."""


class SpoolError(ConnectorError):
    """The rows or the quarantine of a run could not be written to disk."""


class AccountingError(ConnectorError):
    """received != stored + identical + superseded + quarantined: a bug, and nothing was stored."""
