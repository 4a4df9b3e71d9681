"""Mechanisms that know nothing of tasks and that every package may use: batches, background tasks, ids, text."""
