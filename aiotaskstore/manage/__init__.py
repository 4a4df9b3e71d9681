"""What a store does for its callers: open and close, enqueue, read, wait, cancel, retry, delete.

A call of `.enqueue()` passes `preparing` (the draft becomes a row), `enqueuing` (rows of several calls become a batch)
and `inserting` (the batch is written).
"""
