"""What a site can do, before the first sync or when one fails."""
