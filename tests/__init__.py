"""The tests of aiotaskstore, and the command that runs them."""
