"""Subscriptions at one relay: repeated after a refusal, and on a new connection."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from caravel.nostr.relays.authentication import Authentication, AuthenticationFailed
from caravel.nostr.relays.background import in_background
from caravel.nostr.relays.dial import RelayUnreachable

logger = structlog.get_logger(__name__)

Filter = dict[str, Any]
#: Seconds before subscribing again: the first delay and the maximum.
_MIN_DELAY, _MAX_DELAY = 0.25, 30.0


class SubscriptionRefused(RelayUnreachable):
    """The relay refuses the subscription."""

    code = "relay-subscription-refused"


@dataclass(eq=False)
class Subscription:
    """Subscription at a relay; `on_event` is called with unverified events."""

    id: str
    filters: list[Filter]
    on_event: Callable[[object], None]
    #: Done at EOSE. Fails with RelayUnreachable if the relay refuses twice, or if two
    #: connections are lost before; the subscription is repeated all the same.
    stored: "asyncio.Future[None]"
    secret_keys: tuple[str, ...] = ()
    #: Number of CLOSED messages on this connection.
    refusals: int = 0
    #: Number of connections that were lost.
    losses: int = 0
    #: Repeats the subscription after a refusal.
    repeating: "asyncio.Task[None] | None" = None

    def __repr__(self) -> str:  # without the keys
        return f"<Subscription {self.id}>"

    @property
    def is_refused(self) -> bool:
        """True while a repetition is scheduled."""
        return self.repeating is not None and not self.repeating.done()

    @property
    def interruptions(self) -> tuple[int, int]:
        """Losses and refusals: after a change, events may have been missed."""
        return self.losses, self.refusals

    def fail(self, error: RelayUnreachable) -> None:
        """End the wait for EOSE."""
        if not self.stored.done():
            self.stored.set_exception(error)
            # Retrieved here, or asyncio logs an error if nobody waits.
            self.stored.exception()

    def end(self) -> None:
        """Stop waiting and repeating."""
        self.stored.cancel()
        self.stop_repeating()

    def stop_repeating(self) -> None:
        """Cancel the repetition that a refusal has scheduled."""
        if self.repeating is not None:
            self.repeating.cancel()
            self.repeating = None

    async def wait_for_eose(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; return False if no EOSE has arrived.

        Raises RelayUnreachable if the subscription fails.
        """
        await asyncio.wait([self.stored], timeout=timeout)
        if not self.stored.done() or self.stored.cancelled():
            return False
        self.stored.result()
        return True


class Subscriptions:
    """All subscriptions at one relay."""

    def __init__(
        self,
        host: str,
        send: Callable[[list[object]], Awaitable[None]],
        authentication: Authentication,
    ) -> None:
        self._host = host
        self._send = send
        self._authentication = authentication
        self._open: dict[str, Subscription] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: object) -> bool:
        return id in self._open

    def add(
        self,
        filters: Iterable[Filter],
        on_event: Callable[[object], None],
        secret_keys: Iterable[str],
    ) -> Subscription:
        """Add a subscription, without sending it."""
        subscription = Subscription(
            id=f"caravel-{next(self._numbers)}",
            filters=list(filters),
            on_event=on_event,
            stored=asyncio.get_running_loop().create_future(),
            secret_keys=tuple(dict.fromkeys(filter(None, secret_keys))),
        )
        self._open[subscription.id] = subscription
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """End a subscription; return whether it was open."""
        subscription.end()
        return self._open.pop(subscription.id, None) is not None

    async def request(self, subscription: Subscription) -> None:
        """Send the subscription, unless it was removed."""
        await self._authentication.prove_further(subscription.secret_keys)
        if subscription.id in self._open:
            await self._send(["REQ", subscription.id, *subscription.filters])

    async def request_all(self) -> None:
        """Send all subscriptions over a new connection."""
        subscriptions = list(self._open.values())
        for subscription in subscriptions:
            subscription.refusals = 0
            subscription.stop_repeating()
        await asyncio.gather(*map(self.request, subscriptions))

    def fail(self, error: RelayUnreachable) -> None:
        """End the wait of all subscriptions for EOSE."""
        for subscription in self._open.values():
            subscription.fail(error)

    # --- receiving

    def on_event(self, id: str, data: object) -> None:
        """Pass an event on."""
        if subscription := self._open.get(id):
            subscription.on_event(data)

    def on_eose(self, id: str) -> None:
        """Note that the relay has sent its stored events."""
        subscription = self._open.get(id)
        if subscription is not None and not subscription.stored.done():
            subscription.stored.set_result(None)

    def on_closed(self, id: str, reason: str) -> None:
        """Repeat a subscription that the relay has refused or ended."""
        subscription = self._open.get(id)
        if subscription is not None and not subscription.is_refused:
            subscription.repeating = in_background(self._repeat(subscription, reason))

    def on_notice(self, text: str) -> None:
        """Repeat the unanswered subscriptions, if the relay refuses them by NOTICE."""
        # Without their names: https://pypi.org/project/nostr-relay/ and older relays.
        if text.startswith(("auth-required:", "restricted:")):
            for subscription in list(self._open.values()):
                if not subscription.stored.done():
                    self.on_closed(subscription.id, text)

    def on_connection_lost(self) -> None:
        """End the wait of those that were interrupted for the second time."""
        for subscription in self._open.values():
            subscription.losses += 1
            if subscription.losses > 1:
                error = f"The relay {self._host} closes the connection."
                subscription.fail(RelayUnreachable(error))

    async def _repeat(self, subscription: Subscription, reason: str) -> None:
        keys = subscription.secret_keys
        needs_auth = self._authentication.may_help(reason, keys)
        subscription.refusals += 1
        if subscription.refusals > 1:
            self._on_refused(subscription, reason)
        # Only the first request for authentication is answered without a delay.
        if subscription.refusals > 1 or not needs_auth:
            delay = _MIN_DELAY * (1 << min(subscription.refusals, 10))
            await asyncio.sleep(min(delay, _MAX_DELAY))
        try:
            if needs_auth:
                await self._authentication.prove(keys)
        except AuthenticationFailed as exc:
            subscription.fail(exc)
        # The relay may refuse again at once: from here on its answer counts.
        subscription.repeating = None
        await self.request(subscription)

    def _on_refused(self, subscription: Subscription, reason: str) -> None:
        if subscription.refusals == 2:
            logger.info("subscription_refused", relay=self._host, reason=reason)
        error = f"The relay {self._host} refuses the subscription: {reason}"
        subscription.fail(SubscriptionRefused(error))
