"""The ways in which periop signs in to the server of a site, as frozen models: one for each `auth.kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from schedules.config.fields import FilePath, Section, ServerUrl, server_url

# Parameters of a request for a token that have a key of their own, or that periop sets.
PARAMETERS_OF_PERIOP = frozenset(
    {
        "audience",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "grant_type",
        "resource",
        "scope",
    }
)


def _parameter_names(parameters: Mapping[str, str]) -> Mapping[str, str]:
    if taken := sorted(PARAMETERS_OF_PERIOP & set(parameters)):
        raise ValueError(f"sets {', '.join(taken)}, which periop sets itself or has a key for")
    return parameters


def _token_endpoint(url: str) -> str:
    # Unlike a server's base it may have a query (RFC 6749, 3.2), and a / at its end is part of the address.
    server_url(url.partition("?")[0])
    return url


def _split(scope: object) -> object:
    return scope.split() if isinstance(scope, str) else scope


TokenUrl = Annotated[str, AfterValidator(_token_endpoint)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+\z")]  # RFC 6749, 3.3


class NoAuth(Section):
    """No credentials: a server that is open to its network."""

    kind: Literal["none"] = "none"


class BasicAuth(Section):
    """HTTP Basic: the password by the name of an environment variable or of a file."""

    # The password itself is not a key: the file is copied, shown to colleagues and put under version control.
    kind: Literal["basic"]
    username: str
    password_env: str | None = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> BasicAuth:
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError("give one of password_env, password_file")
        return self


class BearerAuth(Section):
    """A fixed bearer token, by the name of an environment variable or of a file."""

    kind: Literal["bearer"]
    token_env: str | None = None
    token_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> BearerAuth:
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("give one of token_env, token_file")
        return self


class SmartAuth(Section):
    """SMART Backend Services: `key_file` is the private key whose public half is registered at the server.

    `scope`: the scopes to request instead of `system/<Type>.rs` of every type that is read. `token_url`: the token
    endpoint, if discovery does not find it. `jku`: the address of the JWKS, for servers that require it.
    """

    kind: Literal["smart"]
    client_id: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+\z")]  # RFC 6749, A.1
    key_file: FilePath
    scope: Annotated[tuple[Scope, ...], BeforeValidator(_split)] = ()
    token_url: TokenUrl | None = None
    jku: ServerUrl | None = None


class ClientSecretAuth(Section):
    """OAuth 2 client credentials with a secret (RFC 6749, 2.3.1 and 4.4), by the name of a variable or of a file.

    `sent_in`: the part of the request that the secret goes into. `audience`, `resource`, `token_parameters`: further
    parameters of the request for a token. `token_url`: the token endpoint; without it discovery must find one on the
    origin of the site.
    """

    kind: Literal["client_secret"]
    client_id: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+\z")]
    client_secret_env: str | None = None
    client_secret_file: FilePath | None = None
    sent_in: Literal["header", "body"] = "header"  # every server must take the header (RFC 6749, 2.3.1)
    scope: Annotated[tuple[Scope, ...], BeforeValidator(_split)] = ()
    audience: str | None = None
    resource: str | None = None
    token_parameters: Annotated[dict[str, str], AfterValidator(_parameter_names)] = Field(default_factory=dict)
    token_url: TokenUrl | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ClientSecretAuth:
        if (self.client_secret_env is None) == (self.client_secret_file is None):
            raise ValueError("give one of client_secret_env, client_secret_file")
        return self


# `kind` selects the model, so that an error is reported for that model and not for all of them.
Auth = Annotated[NoAuth | BasicAuth | BearerAuth | SmartAuth | ClientSecretAuth, Field(discriminator="kind")]
