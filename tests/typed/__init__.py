"""What type checkers know of the face."""
