"""HTTP requests to one server: origins, retries, deadlines and size limits."""
