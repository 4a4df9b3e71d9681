"""Listeners of the library: log records, and the application's `on_error`."""
