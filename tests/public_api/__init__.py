"""What a user sees, on each database."""
