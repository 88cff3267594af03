"""`make reset`: delete the data of `make run`, unless it is in use."""

import sys

from caravel import embedded
from sandbox.demo.system import VAR


def main() -> int:
    """Delete the data's directory; return the exit status."""
    if not embedded.have_run(VAR):
        print(f"No data in {VAR}.")
        return 0
    try:
        embedded.remove(VAR)
    except embedded.AlreadyRunning as exc:
        print(f"{exc} Stop it first.", file=sys.stderr)
        return 1
    print(f"Deleted {VAR}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
