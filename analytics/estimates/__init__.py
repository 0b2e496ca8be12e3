"""Cohort tables -> estimates."""
