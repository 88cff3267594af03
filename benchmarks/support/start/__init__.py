"""A start of `make run`, and what its processes use."""
