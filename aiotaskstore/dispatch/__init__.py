"""The dispatcher: it claims tasks, runs their handlers and records the outcomes."""
