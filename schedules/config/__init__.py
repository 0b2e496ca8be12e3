"""periop.toml and the secrets it names."""
