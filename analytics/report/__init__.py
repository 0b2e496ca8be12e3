"""The released results as a report."""
