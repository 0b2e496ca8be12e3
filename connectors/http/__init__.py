"""HTTP requests to one server.

`client` sends them, and every request goes through it. `origin_policy` says where they may go, `authenticators` with
which credentials, `retry` how often, and `response` what an unusable answer means.

A header that a site needs, such as the API key of a gateway, is one more kind of `Authenticator`: then every request to
that site carries it, and no other server sees it. Its settings go into `schedules.config.site_settings`, and
`schedules.run.sources.authenticator` makes it from them. A header for every site belongs into `FhirClient._stream`.
"""
