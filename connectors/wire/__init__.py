"""Requests to one server: where they may go, how often, how long, how much."""
