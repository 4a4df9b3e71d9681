"""The command line: one file for each noun, `app.py` puts them together."""
