"""`python -m steering` is the `steering` command."""

from steering.cli.main import main

main()
