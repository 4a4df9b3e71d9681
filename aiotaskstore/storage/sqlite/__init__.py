"""SQLite: one thread that writes, one that reads, and aiosqlite for the caller's connections."""
