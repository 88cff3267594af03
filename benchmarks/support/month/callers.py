"""Tenants who use the API while their invoices are collected."""

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import requests

from benchmarks.support.month.tenants import Payer
from caravel.nostr.http_auth import authorization

#: Requests per second: as many as one address may make, with some room.
_RATE = 4.0
_TIMEOUT = 30.0


class Callers:
    """Sends signed requests at a steady rate, from a thread."""

    def __init__(self, url: str, payers: Sequence[Payer]) -> None:
        self._url = url
        self._payers = cycle(payers)
        self._stopped = threading.Event()
        #: Seconds until each answer.
        self.seconds: list[float] = []
        #: Descriptions of answers that are not as they should be.
        self.faults: list[str] = []

    def percentile(self, share: float) -> float:
        """Return the seconds within which this share of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def run(self) -> None:
        """Send requests until `stop`."""
        with requests.Session() as session:
            due = time.monotonic()
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due = max(due + 1 / _RATE, time.monotonic() - 1)
                self._call_in_turn(session, len(self.seconds))

    def stop(self) -> None:
        """End `run` after the present request."""
        self._stopped.set()

    def _call_in_turn(self, session: requests.Session, number: int) -> None:
        payer = next(self._payers)
        path = f"/api/tenants/{payer.pubkey}"
        calls = [
            ("GET", path, None),
            ("GET", f"{path}/invoices", None),
            ("GET", f"{path}/relays", None),
            ("PATCH", path, {"time_zone": "Europe/Berlin"}),
        ]
        self._call(session, payer, *calls[number % len(calls)])

    def _call(
        self,
        session: requests.Session,
        payer: Payer,
        method: str,
        path: str,
        data: dict[str, str] | None,
    ) -> None:
        body = b"" if data is None else json.dumps(data).encode()
        url = self._url + path
        header = authorization(payer.secret_key, url=url, method=method, body=body)
        started = time.perf_counter()
        answer = session.request(
            method, url, data=body, headers={"Authorization": header}, timeout=_TIMEOUT
        )
        self.seconds.append(time.perf_counter() - started)
        if answer.status_code != 200:
            self.faults.append(f"{method} {path}: {answer.status_code} {answer.text}")


@contextmanager
def calling(url: str, payers: Sequence[Payer]) -> Iterator[Callers]:
    """Send requests for the length of the block."""
    callers = Callers(url, payers)
    thread = threading.Thread(target=callers.run, daemon=True)
    thread.start()
    try:
        yield callers
    finally:
        callers.stop()
        thread.join()
