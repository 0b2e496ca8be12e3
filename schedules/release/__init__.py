"""Releases: write, publish and read them back."""
