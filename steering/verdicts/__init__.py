"""Verdicts on what was measured: against a profile's claims, and against an earlier run."""
