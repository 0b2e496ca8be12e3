"""Invented patients on a test server: load them, and take them off again."""
