"""Pool released results of several sites into one, from aggregates alone."""
