"""HTTP requests to one server.

`client` sends them, and every request goes through it. `origin_policy` says where they may go, `authenticators` with
which credentials, `retry` how often, and `response` what an unusable answer means. A header for every request belongs
into `client.FhirClient._stream`; a setting for it goes from `schedules.config.site_settings` by `schedules.run.sources`
to the sources that open a client.
"""
