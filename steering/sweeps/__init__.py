"""From cells to outcomes: constructing, measuring and recording."""
