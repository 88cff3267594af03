"""Measurements that are printed and judged, each as `python -m benchmarks.<name>`."""
