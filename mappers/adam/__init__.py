"""The cohort tables as files for other programs: Parquet, CSV and SAS transport (XPT), with their metadata."""
