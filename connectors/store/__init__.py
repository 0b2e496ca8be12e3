"""What is kept of a sync: the lake, the quarantine, and the account between them."""
