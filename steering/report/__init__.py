"""Reports of what was measured, for people who were not there: figures, and one HTML file that needs nothing else."""
