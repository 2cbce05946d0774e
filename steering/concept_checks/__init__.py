"""What the author of a concept should look at, and at which layers it is worth measuring."""
