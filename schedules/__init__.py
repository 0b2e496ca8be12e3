"""Composition root: the only package that imports all others, reads the environment, and knows the clock."""
