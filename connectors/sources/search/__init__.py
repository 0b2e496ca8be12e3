"""Resources by paged search."""
