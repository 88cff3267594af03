"""How much of us one caller may have, and all together who make us wait."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.http import HttpRequest
from limits import parse

from caravel.core.exceptions import CaravelError
from caravel.core.rate_limit import wait_for

#: The threads of this process that wait for somebody else's wallet, exchange or Stripe:
#: how many on whose behalf, and how many in all under no name.
_waiting: Counter[str] = Counter()
_lanes = threading.Condition()
#: Seconds that a request waits for a lane: most are free again in less.
PATIENCE = 1.0


class Throttled(CaravelError):
    """Too many requests: `Retry-After` says how many seconds to wait."""

    code = "throttled"
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(CaravelError):
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
def concurrency_limit(*keys: str) -> Iterator[None]:
    """Do something that may wait long for others. Raises Busy when many are at it.

    Of SLOW_REQUESTS at once one holder, such as a key or an address, has half at the
    most: nobody's silent wallets make all others wait.
    """
    names = {"", *keys}
    with _lanes:
        if not _are_free(keys) or not _lanes.wait_for(
            lambda: _are_free(names), PATIENCE
        ):
            raise Overloaded("Many are waiting just now: try again in a moment.")
        _waiting.update(names)
    try:
        yield
    finally:
        with _lanes:
            _waiting.subtract(names)
            for name in names:
                if not _waiting[name]:
                    del _waiting[name]
            _lanes.notify_all()


def _are_free(keys: Iterable[str]) -> bool:
    return all(_waiting[holder] < _most(holder) for holder in keys)


def _most(holder: str) -> int:
    lanes: int = settings.SLOW_REQUESTS
    return max(1, lanes // 2) if holder else lanes


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
