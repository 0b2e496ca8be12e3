"""HTTP requests to one server.

`client` sends them, and every request goes through it. `origin_policy` says where they may go, `authenticators` with
which credentials, `retry` how often, and `response` what an unusable answer means.

A header that a site needs, such as the API key of a gateway, comes from its `Authenticator` (`WithHeaders`): then every
request to that site carries it, and no other server sees it. A header for every site belongs into `FhirClient._stream`.
"""
