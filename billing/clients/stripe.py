"""Stripe: https://docs.stripe.com/api, at the pinned API version.

Every call has a timeout, takes one token of the shared rate limit a try, and retries
what may pass: no answer, 429, 5xx. What remains is raised as one of three things we
may know of a call: it had no effect, it may have had one, it was turned away.
"""

import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar, cast

import stripe
from django.conf import settings

from billing import exceptions
from billing.clients.rate_limit import take_token
from caravel.network import leave_database

API_VERSION = "2026-10-28.endive"
TRIES = 3
#: Seconds: to connect, and between two bytes of an answer.
TIMEOUT = (2.0, 20.0)
#: A longer Retry-After is left to the caller's own retry.
LONGEST_PAUSE = 10.0

#: How a pause is made, unless the caller has another way.
pause_for: Callable[[float], None] = time.sleep

T = TypeVar("T")


@dataclass(frozen=True)
class Customer:
    """A customer, or the tombstone of one that was deleted."""

    id: str
    email: str
    metadata: Mapping[str, str]
    deleted: bool = False


@dataclass(frozen=True)
class Item:
    id: str
    price: str
    quantity: int | None


@dataclass(frozen=True)
class Subscription:
    """What we act on of a subscription.

    `cancel_reason` is "" and `canceled_at`, in seconds of the epoch, None until then.
    """

    id: str
    customer: str
    status: str
    created: int
    collection_method: str
    items: tuple[Item, ...]
    metadata: Mapping[str, str]
    cancel_reason: str
    canceled_at: int | None = None


@dataclass(frozen=True)
class Invoice:
    """`amount_remaining` is in the currency's minor unit."""

    id: str
    status: str
    amount_remaining: int
    auto_advance: bool


class Stripe:
    """The calls we make. Each raises a `billing.exceptions.StripeError`.

    `before_try` runs before every single request, and may raise to prevent it.
    """

    def __init__(
        self,
        *,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._before_try = before_try or (lambda: None)
        self._sleep = sleep or pause_for

    # --- customers

    def create_customer(self, params: Mapping[str, Any], key: str) -> Customer:
        """Create a customer, once per idempotency key."""
        args, options = _keyed(params, key)
        return _customer(self._call(lambda: _v1().customers.create(args, options)))

    def get_customer(self, customer_id: str) -> Customer:
        """Return the customer, or its tombstone.

        Raises StripeNotFound when the account never had it: that proves nothing about
        a customer of ours, only that we are asking the wrong account.
        """
        found = self._call(lambda: _v1().customers.retrieve(customer_id))
        if getattr(found, "deleted", False):
            return Customer(found.id, "", {}, deleted=True)
        return _customer(found)

    def list_customers(self, *, email: str) -> list[Customer]:
        """Return the customers with exactly this e-mail, newest first."""
        pages = self._pages(
            lambda params: _v1().customers.list(params), {"email": email, "limit": 100}
        )
        return [_customer(found) for found in pages]

    # --- subscriptions

    def create_subscription(self, params: Mapping[str, Any], key: str) -> Subscription:
        """Create a subscription, once per idempotency key."""
        args, options = _keyed(params, key)
        created = self._call(lambda: _v1().subscriptions.create(args, options))
        return _subscription(created)

    def get_subscription(self, subscription_id: str) -> Subscription:
        """Return the subscription, an ended one too.

        Raises StripeNotFound when the account never had it.
        """
        found = self._call(lambda: _v1().subscriptions.retrieve(subscription_id))
        return _subscription(found)

    def list_subscriptions(
        self, *, customer: str, ended: bool = False
    ) -> list[Subscription]:
        """Return a customer's subscriptions, newest first; ended ones if asked."""
        params: stripe.params.SubscriptionListParams = {
            "customer": customer,
            "limit": 100,
        }
        if ended:
            params["status"] = "all"
        return [
            _subscription(found)
            for found in self._pages(lambda p: _v1().subscriptions.list(p), params)
        ]

    def update_subscription(
        self, subscription_id: str, params: Mapping[str, Any]
    ) -> Subscription:
        """Change a subscription. Absolute values only: a later call repeats it.

        The tries of one call share a key, so an item is added once.
        """
        args, options = _keyed(params, f"update:{uuid.uuid4()}")
        updated = self._call(
            lambda: _v1().subscriptions.update(subscription_id, args, options)
        )
        return _subscription(updated)

    def cancel_subscription(
        self, subscription_id: str, *, prorate: bool, invoice_now: bool
    ) -> None:
        """Cancel at once. Raises StripeNotFound when it has ended already."""
        self._call(
            lambda: _v1().subscriptions.cancel(
                subscription_id, {"prorate": prorate, "invoice_now": invoice_now}
            )
        )

    # --- invoices

    def list_invoices(self, *, subscription: str) -> list[Invoice]:
        """Return a subscription's invoices, newest first."""
        params: stripe.params.InvoiceListParams = {
            "subscription": subscription,
            "limit": 100,
        }
        pages = self._pages(lambda p: _v1().invoices.list(p), params)
        return [_invoice(found) for found in pages]

    def finalize_invoice(self, invoice_id: str) -> None:
        """Finalize a draft; Stripe will not collect it by itself."""
        self._call(
            lambda: _v1().invoices.finalize_invoice(invoice_id, {"auto_advance": False})
        )

    def stop_auto_advance(self, invoice_id: str) -> None:
        """Keep Stripe from collecting, or finalizing, this invoice by itself."""
        self._call(lambda: _v1().invoices.update(invoice_id, {"auto_advance": False}))

    # --- prices and the webhook endpoint, for `stripe_setup`

    def find_price(self, lookup_key: str) -> str | None:
        """Return the id of the active price with this lookup key."""
        page = self._call(
            lambda: _v1().prices.list({"lookup_keys": [lookup_key], "active": True})
        )
        return page.data[0].id if page.data else None

    def create_price(self, params: Mapping[str, Any], key: str) -> str:
        """Create a price, once per idempotency key; returns its id."""
        args, options = _keyed(params, key)
        return str(self._call(lambda: _v1().prices.create(args, options)).id)

    def find_webhook_endpoint(self, url: str) -> tuple[str, list[str]] | None:
        """Return the id and the event types of the enabled endpoint at this address."""
        page = self._call(lambda: _v1().webhook_endpoints.list({"limit": 100}))
        for endpoint in page.data:
            if endpoint.url == url and endpoint.status == "enabled":
                return endpoint.id, list(endpoint.enabled_events)
        return None

    def set_webhook_events(self, endpoint_id: str, events: list[str]) -> None:
        """Set the event types that an endpoint is sent."""
        args = cast(Any, {"enabled_events": events})
        self._call(lambda: _v1().webhook_endpoints.update(endpoint_id, args))

    def create_webhook_endpoint(self, url: str, events: list[str]) -> str:
        """Create an endpoint that speaks our API version; returns its secret."""
        params = {"url": url, "enabled_events": events, "api_version": API_VERSION}
        created = self._call(lambda: _v1().webhook_endpoints.create(cast(Any, params)))
        return str(created.secret)

    # --- how a call is made

    def _call(self, call: Callable[[], T]) -> T:
        """Make a call, trying again what may pass.

        A try that may have had its effect outweighs whatever the later ones say: a
        429, or a refusal by somebody who did not see the first.
        """
        unknown: exceptions.StripeUnavailable | None = None
        for attempt in itertools.count(1):
            try:
                return self._try(call)
            except exceptions.StripeError as error:
                if isinstance(error, exceptions.StripeUnavailable):
                    unknown = error
                pause = _pause(error, attempt)
                if pause is None and unknown:
                    raise unknown from error
                if pause is None:
                    raise
            self._sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _try(self, call: Callable[[], T]) -> T:
        take_token(sleep=self._sleep)
        self._before_try()
        leave_database()
        try:
            return call()
        except stripe.StripeError as exc:
            raise _translated(exc) from exc

    def _pages(self, fetch: Callable[[Any], Any], params: Any) -> Iterator[Any]:
        while True:
            page = self._call(partial(fetch, params))
            yield from page.data
            if not page.has_more:
                return
            params = {**params, "starting_after": page.data[-1].id}


def is_live_key() -> bool:
    """Return whether our key works on real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def _v1() -> stripe.V1Services:
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE).v1


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base},
        # The SDK never retries a 429 and ignores Retry-After: ours does both.
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=cast(Any, TIMEOUT)),
    )


def _keyed(params: Mapping[str, Any], key: str) -> tuple[Any, Any]:
    return dict(params), {"idempotency_key": key}


#: What the SDK raises for a 4xx with an error of Stripe's in it. An unreadable answer,
#: whatever its status, is none: somebody else may have written it.
_REFUSALS = (
    stripe.InvalidRequestError,
    stripe.CardError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.IdempotencyError,
)


def _translated(exc: stripe.StripeError) -> exceptions.StripeError:
    if isinstance(exc, stripe.RateLimitError):
        return exceptions.StripeRateLimited(
            _message(exc), retry_after=_retry_after(exc)
        )
    if not isinstance(exc, _REFUSALS) or exc.http_status == 409:
        return exceptions.StripeUnavailable(
            _message(exc), retry_after=_retry_after(exc)
        )
    refusal = exceptions.StripeRefused
    if isinstance(exc, stripe.IdempotencyError):
        refusal = exceptions.StripeReusedKey
    elif exc.http_status == 404:
        refusal = exceptions.StripeNotFound
    return refusal(
        _message(exc),
        type=getattr(exc.error, "type", None) or "",
        stripe_code=exc.code or "",
        param=getattr(exc, "param", None) or "",
    )


def _message(exc: stripe.StripeError) -> str:
    """Return what Stripe said; never a body that it could not have meant for us."""
    if isinstance(exc, stripe.APIConnectionError):
        return str(exc)
    if exc.error is None:
        return f"An answer with status {exc.http_status} that is not Stripe's."
    return exc.user_message or type(exc).__name__


def _retry_after(exc: stripe.StripeError) -> float:
    asked = str((exc.headers or {}).get("retry-after", ""))
    return float(asked) if asked.isdecimal() else 0.0


def _pause(error: exceptions.StripeError, attempt: int) -> float | None:
    """Return the seconds to wait before the next try, or None for no other try."""
    passing = isinstance(
        error, exceptions.StripeUnavailable | exceptions.StripeRateLimited
    )
    if not passing or attempt == TRIES or error.retry_after > LONGEST_PAUSE:
        return None
    backoff = float(2 ** (attempt - 2)) * random.uniform(1, 1.5)
    return error.retry_after or backoff


def _customer(found: Any) -> Customer:
    return Customer(found.id, found.email or "", _metadata(found))


def _subscription(found: Any) -> Subscription:
    items = tuple(
        Item(item.id, item.price.id, getattr(item, "quantity", None))
        for item in found.items.data
    )
    details = found.cancellation_details
    return Subscription(
        id=found.id,
        customer=str(getattr(found.customer, "id", found.customer)),
        status=found.status,
        created=found.created,
        collection_method=found.collection_method,
        items=items,
        metadata=_metadata(found),
        cancel_reason=(details.reason if details else None) or "",
        canceled_at=found.canceled_at,
    )


def _invoice(found: Any) -> Invoice:
    return Invoice(
        found.id, found.status, found.amount_remaining, bool(found.auto_advance)
    )


def _metadata(found: Any) -> dict[str, str]:
    return found.metadata.to_dict() if found.metadata else {}
