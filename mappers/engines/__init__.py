"""The SQL engines that run a mapping: DuckDB and Spark."""
