"""Raw resources -> views -> cohort tables. Pure: takes Ibis tables and a Study, returns Ibis tables."""
