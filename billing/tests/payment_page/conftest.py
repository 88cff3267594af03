from collections.abc import Iterator

import pytest
from django.conf import settings

from billing.services.payment_page import timeouts


@pytest.fixture(autouse=True)
def _background_calls_end_before_flush(db) -> Iterator[None]:
    """Wait for calls that a page gave up: they still read, and would block TRUNCATE."""
    slots = settings.SLOW_REQUESTS
    yield
    assert all(timeouts._slots.acquire(timeout=60) for _ in range(slots))
    timeouts._slots.release(slots)
