"""Web applications as their readers would run them, over HTTP."""
