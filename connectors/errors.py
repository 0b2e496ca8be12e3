"""The errors of `connectors`. Each says what happened, where, and what to do. None quotes the content of a resource.

ConnectorError
├── SourceConfigError        the url, the path or the site name cannot be used: correct the configuration
├── FolderError              the folder is missing, empty or unreadable
├── AuthenticationError      401, or a login page instead of FHIR
├── ServerError              the server could not be read
│   ├── UnavailableError     no usable response after the last attempt
│   │   └── DeferredError    it asks to wait beyond the deadline of this run
│   ├── RefusedError         4xx, with its status
│   │   ├── ExpiredError     404 or 410 on a next link: the search starts again
│   │   └── ExportRefusedError   400 or 422 at the kick-off of an export, which does not say what is wrong
│   ├── ForeignOriginError   a link or a redirect leads to another origin
│   ├── PagingError          next links in a loop, or too many pages
│   │   └── IncompleteError  fewer resources than the server announced
│   ├── ProtocolError        the response is not what FHIR promises
│   ├── TlsError             no encrypted connection: a certificate is missing or not trusted
│   └── TooLargeError        the response is over the size limit
├── SandboxError             a test server cannot take the test patients, or cannot tell them from others
├── LakeError                the lake cannot be read or written
├── SpoolError               no disk space for the rows or the quarantine of this run
└── AccountingError          the counts of a sync do not add up: a bug, nothing was stored
"""

from __future__ import annotations


class ConnectorError(Exception):
    """The base of all errors that `connectors` raises on purpose."""


class SourceConfigError(ConnectorError):
    """The url, the path or the name of a site cannot be used."""


class FolderError(ConnectorError):
    """The folder is missing, holds nothing to read, or may not be read."""


class AuthenticationError(ConnectorError):
    """The server does not accept the credentials (401), or shows a login page."""


class ServerError(ConnectorError):
    """The server could not be read."""


class UnavailableError(ServerError):
    """There was no usable response after the last attempt, or the run was stopped."""


class DeferredError(UnavailableError):
    """The server asks to wait for longer than this run may last."""


class RefusedError(ServerError):
    """The server answered 4xx. `status` is that number.

    outcome: the words of its OperationOutcome, None without one. They are for searching: what may be shown
    of them is in the message.
    """

    def __init__(self, message: str, status: int, outcome: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome


class ExpiredError(RefusedError):
    """404 or 410 on a next link: the server has forgotten this search."""


class FileStorageError(RefusedError):
    """The place outside the server where the files of an export lie does not give them without its own credentials."""


class ExportRefusedError(RefusedError):
    """The server refused an export of these types, without saying which of them it does not have."""


class ForeignOriginError(ServerError):
    """A link or a redirect leads to an origin that is not the configured one."""


class PagingError(ServerError):
    """Next links lead in a loop, or to more pages than allowed."""


class IncompleteError(PagingError):
    """The pages held fewer resources than the server had announced."""


class EmptyPagesError(IncompleteError):
    """Page after page without an entry, each with a next link."""


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


# Raised before the commit: rather no sync at all than one whose counts nobody can trust.
class AccountingError(ConnectorError):
    """received != stored + identical + superseded + quarantined: a bug, and nothing was stored."""
