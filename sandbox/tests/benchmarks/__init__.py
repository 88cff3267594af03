"""Tests of the parts that all benchmarks share."""
