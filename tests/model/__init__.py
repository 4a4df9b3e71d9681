"""The lifecycle, walked at random and compared with a small model of it."""
