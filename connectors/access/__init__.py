"""Who asks: credentials for one server, and how they are obtained."""
