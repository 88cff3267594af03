"""Measures how long a wallet payment takes beside 30 hostile relays.

    python -m benchmarks.hostile_relays [--quick]

A tenant's wallet pays invoices one after the other, alone and while as many other
tenants as there are hostile relays fetch from them. These send as much as they can:
nested lists, forged events, pings and fragments. Both are measured in one process.

Exits with 1 if a payment takes more than twice as long beside them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.wallet_payments import system
from caravel.tests.support.waiting import read_line

if TYPE_CHECKING:
    from lightning.clients.nwc import Wallet

MAX_RATIO = 2.0
RELAYS = 30
