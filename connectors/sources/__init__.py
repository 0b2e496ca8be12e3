"""Where resources come from: a folder, paged search or a bulk export."""
