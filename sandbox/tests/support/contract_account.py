"""The two Stripes that the contract is held against, with one face."""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import stripe

from sandbox.stripe.testing import Sandbox

T = TypeVar("T")
#: Seconds that a real account may take over something it does on the side.
PATIENCE = 60


class Account(Protocol):
    """A test account of Stripe with a clock."""

    api: stripe.StripeClient

    def customer(self, **params: Any) -> stripe.Customer:
        """Return a new customer that lives by the account's clock."""

    def now(self) -> int:
        """Return the clock's time, in seconds of the epoch."""

    def advance(self, seconds: int) -> None:
        """Move the clock; all that falls due happens before this returns."""

    def eventually(self, look: Callable[[], T | None]) -> T:
        """Return what the look finds. Raises AssertionError when it finds nothing."""


class SandboxAccount:
    """The sandbox: everything happens at once."""

    def __init__(self, sandbox: Sandbox, api: stripe.StripeClient) -> None:
        self.api = api
        self._sandbox = sandbox

    def customer(self, **params: Any) -> stripe.Customer:
        given: Any = {"email": "ann@example.com", **params}
        return self.api.v1.customers.create(given)

    def now(self) -> int:
        return self._sandbox.now()

    def advance(self, seconds: int) -> None:
        self._sandbox.advance(seconds)

    def eventually(self, look: Callable[[], T | None]) -> T:
        found = look()
        assert found is not None
        return found


class TestClockAccount:
    """A real test account; each of these has a test clock of its own.

    Deleting the clock at the end removes the customers that lived by it
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
        given: Any = {"email": "ann@example.com", **params, "test_clock": self._clock}
        return self.api.v1.customers.create(given)

    def now(self) -> int:
        return self._now

    def advance(self, seconds: int) -> None:
        self._now += seconds
        clocks = self.api.v1.test_helpers.test_clocks
        clocks.advance(self._clock, {"frozen_time": self._now})
        self.eventually(
            lambda: True if clocks.retrieve(self._clock).status == "ready" else None
        )

    def eventually(self, look: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + PATIENCE
        while (found := look()) is None:
            assert time.monotonic() < deadline, "Stripe took too long"
            time.sleep(1)
        return found

    def close(self) -> None:
        """Remove the clock, and with it the customers."""
        self.api.v1.test_helpers.test_clocks.delete(self._clock)
