"""The `steering` command."""
