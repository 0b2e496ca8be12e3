"""Checks of a site, before the first sync or when one fails: what works, what is missing, and whom to ask for it."""
