"""`make reset`: delete the data of `make run`, unless it is in use."""

import sys

from caravel import embedded
from sandbox.demo.system import VAR


def main() -> int:
    """Delete the data's directory; return the exit status."""
    try:
        print(f"Deleted {VAR}." if embedded.remove(VAR) else f"No data in {VAR}.")
    except embedded.AlreadyRunning as exc:
        print(f"{exc} Stop it first.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
