"""No regular expression takes longer on a hostile text than on a harmless one."""

import inspect
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from caravel.core import redaction

APPS = ("caravel", "tenants", "relays", "lightning", "billing", "api")
#: Texts that begin a match again and again without ending it.
HOSTILE = [
    *("secret", "password", "nwc_url", "private_key", "secret_", 'secret"', "secret "),
    *("secret%3D", "secret%22", "secret%25252522%22", "secret\\u003d", "%25", "%2525"),
    *("secret=", "secret=a", "secret=b'", "secret:\\", "secretsecret   ="),
    *("nostr+walletconnect", "nostr%2Bwalletconnect%3A ", "nsec1", "nsec1qq"),
    *("sk_test_", "rk_live_ ", "whsec_", "whsec_ ", "gAAAAA", "gAAAAAx ", "in_"),
    *("postgres://", "postgres://a:", "pgsql://a:b", "redis://", "redis://:", "ws://"),
    *("/pay/", "/pay/a", "/pay/a.", "%2Fpay%2F", "%2Fpay%2Fa%2E", "/pay/a%2Eb"),
    *("Bearer ", "Basic a", "Nostr", "a", "0", "1.", " ", ",", ", ", "a@", "a@a.", "-"),
    *('"', "\\", "'", "=", ".", "%", "é", "lnbc1", "acct_", "on account '", "\n"),
    *("0" * 63 + "g", "\t\n"),
]
LENGTH = 16_000
HARMLESS = ("GET /api/relays/1234 " * LENGTH)[:LENGTH]
#: A pattern that reads again what it has read needs hundreds of times as long.
MAX_RATIO = 20


def modules() -> Iterator[ModuleType]:
    # First: Django REST framework and our views import each other.
    import_module("caravel.urls")
    for app in APPS:
        package = import_module(app)
        for info in pkgutil.walk_packages(package.__path__, f"{app}."):
            if not re.search(r"\.(tests|migrations|wsgi)\b", info.name):
                yield import_module(info.name)


def patterns() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Names of all patterns, each with the method that our code calls."""
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield f"{module.__name__}.{name}", method_of(value, name, module)
    for number, pattern in enumerate(redaction._PATTERNS):
        yield f"redaction {number}", partial(pattern.sub, "")


def method_of(
    pattern: re.Pattern[Any], name: str, module: ModuleType
) -> Callable[[str], object]:
    searches = rf"\b{name}\.(sub|search|split|find\w+)\("
    is_searched = re.search(searches, inspect.getsource(module))
    if isinstance(pattern.pattern, bytes):
        method = partial(pattern.sub, b"") if is_searched else pattern.fullmatch
        return lambda text: method(text.encode())
    return partial(pattern.sub, "") if is_searched else pattern.fullmatch


def cpu_seconds(function: Callable[[str], object], text: str) -> float:
    """CPU time of a call: of this thread, so that other processes do not count."""
    start = time.thread_time()
    function(text)
    return time.thread_time() - start


def test_no_pattern_takes_longer_on_hostile_text():
    base = min(cpu_seconds(redaction.redact, HARMLESS) for attempt in range(5))
    slow = [
        (name, part)
        for name, method in patterns()
        for part in HOSTILE
        # Again if it is slow: other processes slow down our memory, too.
        if not any(
            cpu_seconds(method, (part * LENGTH)[:LENGTH]) < MAX_RATIO * base
            for attempt in range(3)
        )
    ]

    assert slow == []


def test_patterns_of_all_apps_are_found():
    found = {name for name, method in patterns()}

    assert "lightning.clients.nwc_uri._SEPARATOR" in found
    assert "billing.services.dunning.notices._TOKEN" in found
    assert len(found) >= 20
