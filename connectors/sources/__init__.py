"""The sources of resources: a folder, paged search or a bulk export."""
