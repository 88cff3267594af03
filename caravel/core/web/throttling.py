"""Rate limits per caller, and a concurrency limit for calls to slow services."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from django.conf import settings
from django.http import HttpRequest
from limits import parse

from caravel.core.exceptions import CaravelError
from caravel.core.rate_limit import delay_after_hit

#: Seconds that a request waits for a free slot: most slow calls are shorter.
_SLOT_TIMEOUT = 1.0


class Throttled(CaravelError):
    """Too many requests. `Retry-After` is the number of seconds to wait."""

    code = "throttled"
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(CaravelError):
    """Too many requests are waiting for other services."""

    code = "busy"
    status = 503
    retry_after = 5.0


def throttle(rate: str, *names: str) -> None:
    """Count a request by these names, at a rate such as `10/minute`.

    Raises Throttled if the rate is exceeded.
    """
    if seconds := delay_after_hit(parse(rate), *names):
        raise Throttled("Too many requests. Please wait a little.", retry_after=seconds)


class Bulkhead:
    """Limit on calls that run at once: SLOW_REQUESTS in total, half of them per key.

    Of an exclusive key, only one call runs at once.
    """

    def __init__(self) -> None:
        self._released = threading.Condition()
        self._total = 0
        self._per_key: Counter[str] = Counter()

    @contextmanager
    def slot(self, keys: set[str], exclusive: set[str]) -> Iterator[None]:
        def is_free() -> bool:
            return self._total < settings.SLOW_REQUESTS and self._allows(
                keys, exclusive
            )

        keys = keys | exclusive
        with self._released:
            # A key at its limit fails at once; a free slot is worth a short wait.
            if not self._allows(keys, exclusive) or not self._released.wait_for(
                is_free, _SLOT_TIMEOUT
            ):
                raise Overloaded("The service is busy. Please try again in a moment.")
            self._total += 1
            self._per_key.update(keys)
        try:
            yield
        finally:
            with self._released:
                self._total -= 1
                self._per_key -= Counter(keys)
                self._released.notify_all()

    def _allows(self, keys: set[str], exclusive: set[str]) -> bool:
        maximum = max(1, settings.SLOW_REQUESTS // 2)
        are_free = all(self._per_key[key] < maximum for key in keys)
        return are_free and not any(self._per_key[key] for key in exclusive)


_bulkhead, _downloads = Bulkhead(), Bulkhead()


def concurrency_limit(
    *keys: str, exclusive: Iterable[str] = ()
) -> AbstractContextManager[None]:
    """Run a call to a slow service in one of the process's SLOW_REQUESTS slots.

    One key, such as a pubkey or an address, can hold half of them, so that one caller's
    unresponsive wallet cannot block all others; an exclusive key only one. Raises
    Overloaded.
    """
    return _bulkhead.slot(set(filter(None, keys)), set(exclusive))


def download_limit(*exclusive: str) -> AbstractContextManager[None]:
    """Run a download, which holds a thread, in one of the process's few slots.

    Of an exclusive key, only one runs at once. Raises Overloaded.
    """
    return _downloads.slot({"all downloads"}, set(exclusive))


def client_ip(request: HttpRequest) -> str:
    """Return the caller's IP address as the outermost trusted proxy saw it.

    Returns `unknown` if that is not an address.
    """
    hops = [
        hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")
    ]
    trusted = hops[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    address = next(iter(trusted), "") or request.META.get("REMOTE_ADDR") or ""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    # A dual-stack socket reports IPv4 callers in this form.
    mapped = isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped
    return str(mapped or parsed)


def client_address(request: HttpRequest) -> str:
    """Return the caller's IP address, or for IPv6 the /64 network.

    One host has 2^64 addresses.
    """
    address = client_ip(request)
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))
