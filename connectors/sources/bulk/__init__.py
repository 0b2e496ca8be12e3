"""Resources by Bulk Data export."""
