"""Benchmarks with limits; run one with `python -m benchmarks.<name>`."""
