"""What the storage operations promise, on each database."""
