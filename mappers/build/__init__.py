"""Lake -> views -> cohort tables, kept up to date incrementally."""
