"""The parts of the benchmark of a month's first day."""
