"""SQLAlchemy's asyncio connections and sessions. Imported only when the application passes one of them."""
