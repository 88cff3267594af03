from collections.abc import Iterator

import pytest
from django.conf import settings

from billing.services.payment_page import timeouts
from billing.tests.support.payment_page import forget_paths


@pytest.fixture(autouse=True)
def _background_calls_end_before_flush(db) -> Iterator[None]:
    """Wait for calls that a page gave up: they still read, and would block TRUNCATE."""
    slots = settings.SLOW_REQUESTS
    yield
    assert all(timeouts._slots.acquire(timeout=60) for _ in range(slots))
    timeouts._slots.release(slots)


@pytest.fixture(autouse=True)
def _links_of_one_test() -> Iterator[None]:
    """Forget the links of a test after it."""
    yield
    forget_paths()
