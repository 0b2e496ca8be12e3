"""The base of all sections of `periop.toml`, and the fields that several of them have: paths, addresses, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

# Hosts to which plain http may carry a secret: it does not leave the machine.
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Return `path` relative to the folder of the configuration file, which `validate` passes as context."""
    if path.parts and path.parts[0].startswith("~"):
        # A service has no home, and a folder called ~ is what nobody wants.
        raise ValueError(f"'~' is not expanded here: write the whole path in place of {path.parts[0]}")
    base = (info.context or {}).get("base")
    return Path(base) / path if base is not None else path


def server_url(url: str) -> str:
    """Check that `url` is an http(s) address with a host and without a password, and return it."""
    # No message repeats the address: it may hold a password.
    try:
        parts = urlsplit(url)
        port = parts.port  # parsed on access, and a wrong one raises
    except ValueError:
        raise ValueError("not a valid address; give it like https://fhir.example.org/r4") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an http or https address with a host, like https://fhir.example.org/r4")
    if parts.username is not None or parts.password is not None:
        raise ValueError('holds credentials; put them in `auth = { kind = "basic", … }`')
    if parts.query or parts.fragment:
        raise ValueError("must end with the base path of the server, without ? or #")
    return url.rstrip("/")  # the paths of requests are appended with a / of their own


def exposed(url: str) -> bool:
    """Return whether what is sent to `url` leaves the machine unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


# Numbers and words are strict: what is quoted, or `true` where a number belongs, is a mistake that should be seen.
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400)]
Days = Annotated[float, Field(strict=True, ge=0, le=36_500)]
Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
FilePath = Annotated[Path, AfterValidator(resolve_path)]
ServerUrl = Annotated[str, AfterValidator(server_url)]


class Section(BaseModel):
    """Base class of every section of `periop.toml`: immutable, and a misspelt key is an error."""

    # forbid: a misspelt `min_cel` must not silently leave the default. frozen: the threads of a run share the settings.
    model_config = ConfigDict(extra="forbid", frozen=True)
