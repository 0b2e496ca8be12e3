"""Cohort tables -> results -> rendered artefacts. Never imports connectors, httpx or apscheduler."""
