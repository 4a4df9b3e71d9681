"""SQLite: one writer thread, readers apart, aiosqlite for the caller."""
