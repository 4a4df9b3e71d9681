"""A user's test suite, run by a pytest of its own."""
