"""What callers ask: enqueue, look, wait, cancel, retry, delete."""
