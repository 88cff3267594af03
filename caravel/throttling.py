"""How much of us one caller may have, and all together who make us wait."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.http import HttpRequest
from limits import parse

from caravel.exceptions import CaravelError
from caravel.rate_limit import wait_for

#: How many threads of a process may wait for somebody else's wallet, exchange or Stripe
#: on a visitor's behalf; the others go on serving.
_SLOW = threading.BoundedSemaphore(settings.SLOW_REQUESTS)
#: How many of these for somebody whom the visitor has named, and who may be silent on
#: purpose: whoever pays an invoice meanwhile is not to find them all taken.
_STRANGERS = threading.BoundedSemaphore(max(1, settings.SLOW_REQUESTS // 2))


class Throttled(CaravelError):
    """Too many requests: `Retry-After` says how many seconds to wait."""

    code = "throttled"
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(CaravelError):
    """Too many others are being waited for just now."""

    code = "busy"
    status = 503
    retry_after = 5.0


def throttle(rate: str, *names: str) -> None:
    """Count a use of what the names stand for. Raises Throttled beyond the rate.

    The rate is such as `10/minute`.
    """
    if seconds := wait_for(parse(rate), *names):
        raise Throttled("Too many requests: wait a little.", retry_after=seconds)


@contextmanager
def slow_lane() -> Iterator[None]:
    """Do something that may wait long for others. Raises Busy when many are at it."""
    with _one_of(_SLOW):
        yield


@contextmanager
def strangers_lane() -> Iterator[None]:
    """Do something that may wait long for whom the visitor has named. Raises Busy."""
    with _one_of(_STRANGERS), _one_of(_SLOW):
        yield


@contextmanager
def _one_of(lanes: threading.BoundedSemaphore) -> Iterator[None]:
    if not lanes.acquire(blocking=False):
        raise Busy("Many are waiting just now: try again in a moment.")
    try:
        yield
    finally:
        lanes.release()


def client_address(request: HttpRequest) -> str:
    """Return who calls, as the last proxy that we trust saw it.

    Of an IPv6 address the network: whoever has one has 2^64.
    """
    hops = [
        hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")
    ]
    trusted = hops[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    address = next(iter(trusted), "") or request.META.get("REMOTE_ADDR") or "unknown"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed  # as who listens on both sees IPv4
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
