"""`python -m server` is the command `bellhop`."""

from server.cli import main

main()
