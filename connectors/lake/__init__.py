"""The lake: raw resources, every version, in one Delta table."""
