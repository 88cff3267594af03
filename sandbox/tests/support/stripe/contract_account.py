"""Accounts that the contract tests run against: the sandbox and a real test account."""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import stripe

from sandbox.stripe.client.testing import Sandbox

T = TypeVar("T")
#: Seconds to wait for asynchronous work of a real account, such as events.
TIMEOUT = 60


class Account(Protocol):
    """A Stripe test account with a clock."""

    api: stripe.StripeClient

    def customer(self, **params: Any) -> stripe.Customer:
        """Return a new customer on the account's clock."""

    def now(self) -> int:
        """Return the clock's time, in seconds since the epoch."""

    def advance(self, seconds: int) -> None:
        """Advance the clock and wait until everything due has happened."""

    def eventually(self, fetch: Callable[[], T | None]) -> T:
        """Call `fetch` until it returns a value. Raises AssertionError on timeout."""


class SandboxAccount:
    """The sandbox, where nothing is asynchronous."""

    def __init__(self, sandbox: Sandbox, api: stripe.StripeClient) -> None:
        self.api = api
        self._sandbox = sandbox

    def customer(self, **params: Any) -> stripe.Customer:
        body: Any = {"email": "ann@example.com", **params}
        return self.api.v1.customers.create(body)

    def now(self) -> int:
        return self._sandbox.now()

    def advance(self, seconds: int) -> None:
        self._sandbox.advance(seconds)

    def eventually(self, fetch: Callable[[], T | None]) -> T:
        value = fetch()
        assert value is not None
        return value


class TestClockAccount:
    """A real test account with a new test clock.

    Deleting the clock also deletes its customers
    (docs.stripe.com/billing/testing/test-clocks).
    """

    __test__ = False

    def __init__(self, api: stripe.StripeClient) -> None:
        self.api = api
        self._now = int(time.time())
        self._clock = api.v1.test_helpers.test_clocks.create(
            {"frozen_time": self._now, "name": "contract"}
        ).id

    def customer(self, **params: Any) -> stripe.Customer:
        body: Any = {"email": "ann@example.com", **params, "test_clock": self._clock}
        return self.api.v1.customers.create(body)

    def now(self) -> int:
        return self._now

    def advance(self, seconds: int) -> None:
        self._now += seconds
        clocks = self.api.v1.test_helpers.test_clocks
        clocks.advance(self._clock, {"frozen_time": self._now})
        self.eventually(
            lambda: True if clocks.retrieve(self._clock).status == "ready" else None
        )

    def eventually(self, fetch: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + TIMEOUT
        while (value := fetch()) is None:
            assert time.monotonic() < deadline, "Stripe took too long"
            time.sleep(1)
        return value

    def close(self) -> None:
        """Delete the clock and its customers."""
        self.api.v1.test_helpers.test_clocks.delete(self._clock)
