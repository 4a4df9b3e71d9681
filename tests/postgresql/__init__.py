"""What only PostgreSQL promises."""
