"""`python -m steering` is the `steering` command."""

from steering.cli import main

main()
