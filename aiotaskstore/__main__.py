"""`python -m aiotaskstore` is the command line."""

from aiotaskstore.cli.app import main

if __name__ == "__main__":
    main()
