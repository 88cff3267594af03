"""The process that measures: beside the system's own, with Django configured."""

import argparse
import sys
from importlib import import_module

import django


def main() -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    django.setup()
    # Imports models: possible only now.
    return int(import_module("benchmarks.support.latency.measure").main(quick=quick))


if __name__ == "__main__":
    sys.exit(main())
