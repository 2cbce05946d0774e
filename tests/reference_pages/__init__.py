"""The reference under docs/reference/, made from the docstrings: `python -m tests.reference_pages` writes it."""
