"""Memory of a process."""

import re
import subprocess
from pathlib import Path

MEGABYTE = 1024 * 1024


def resident(pid: int) -> float:
    """Return the resident memory of a process, in megabytes."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        match = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
        kilobytes = match[1] if match else "0"
    else:
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        kilobytes = subprocess.check_output(command, text=True)
    return int(kilobytes) * 1024 / MEGABYTE
