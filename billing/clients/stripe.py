"""Stripe: https://docs.stripe.com/api, at the pinned API version.

Every call has a timeout, takes one token of the shared rate limit a try, and retries
what may pass: no answer, 429, 5xx. What remains is raised as one of three things we
may know of a call: it had no effect, it may have had one, it was turned away.
"""

import itertools
import random
import time
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
    id: str
    email: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Item:
    id: str
    price: str
    quantity: int | None


@dataclass(frozen=True)
class Subscription:
    """What we act on of a subscription; `cancel_reason` is "" until it has ended."""

    id: str
    customer: str
    status: str
    created: int
    collection_method: str
    items: tuple[Item, ...]
    metadata: Mapping[str, str]
    cancel_reason: str


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

    def get_customer(self, customer_id: str) -> Customer | None:
        """Return the customer, or None when it is deleted or was never there."""
        try:
            found = self._call(lambda: _v1().customers.retrieve(customer_id))
        except exceptions.StripeNotFound:
            return None
        return None if getattr(found, "deleted", False) else _customer(found)

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

    def get_subscription(self, subscription_id: str) -> Subscription | None:
        """Return the subscription, ended ones too, or None when Stripe has none."""
        try:
            found = self._call(lambda: _v1().subscriptions.retrieve(subscription_id))
        except exceptions.StripeNotFound:
            return None
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
        """Change a subscription. Absolute values only: it may be sent twice."""
        args = cast(Any, dict(params))
        updated = self._call(lambda: _v1().subscriptions.update(subscription_id, args))
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

    def find_webhook_endpoint(self, url: str) -> str | None:
        """Return the id of the enabled endpoint with this address."""
        page = self._call(lambda: _v1().webhook_endpoints.list({"limit": 100}))
        found = (e.id for e in page.data if e.url == url and e.status == "enabled")
        return next(found, None)

    def create_webhook_endpoint(self, url: str, events: list[str]) -> str:
        """Create an endpoint that speaks our API version; returns its secret."""
        params = {"url": url, "enabled_events": events, "api_version": API_VERSION}
        created = self._call(lambda: _v1().webhook_endpoints.create(cast(Any, params)))
        return str(created.secret)

    # --- how a call is made

    def _call(self, call: Callable[[], T]) -> T:
        unknown: exceptions.StripeUnavailable | None = None
        for attempt in itertools.count(1):
            take_token(sleep=self._sleep)
            self._before_try()
            leave_database()
            try:
                return call()
            except stripe.StripeError as exc:
                error, pause = _translated(exc), _pause(exc, attempt)
                if isinstance(error, exceptions.StripeRefused):
                    raise error from exc
                if isinstance(error, exceptions.StripeUnavailable):
                    unknown = error
                if pause is None:
                    # A try that may have had an effect outweighs a later 429.
                    raise (unknown or error) from exc
            self._sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

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


def _translated(exc: stripe.StripeError) -> exceptions.StripeError:
    message = exc.user_message or str(exc) or type(exc).__name__
    status = exc.http_status or 0
    if isinstance(exc, stripe.RateLimitError):
        return exceptions.StripeRateLimited(message)
    if isinstance(exc, stripe.APIConnectionError) or status == 409 or status >= 500:
        return exceptions.StripeUnavailable(message)
    refusal = exceptions.StripeRefused
    if isinstance(exc, stripe.IdempotencyError):
        refusal = exceptions.StripeReusedKey
    elif status == 404:
        refusal = exceptions.StripeNotFound
    return refusal(
        message,
        type=getattr(exc.error, "type", None) or "",
        stripe_code=exc.code or "",
        param=getattr(exc, "param", None) or "",
    )


def _pause(exc: stripe.StripeError, attempt: int) -> float | None:
    """Return the seconds to wait before the next try, or None for no other try."""
    if attempt == TRIES:
        return None
    asked = str((exc.headers or {}).get("retry-after", ""))
    if asked.isdecimal():
        return float(asked) if int(asked) <= LONGEST_PAUSE else None
    return float(2 ** (attempt - 2)) * random.uniform(1, 1.5)


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
    )


def _invoice(found: Any) -> Invoice:
    return Invoice(
        found.id, found.status, found.amount_remaining, bool(found.auto_advance)
    )


def _metadata(found: Any) -> dict[str, str]:
    return found.metadata.to_dict() if found.metadata else {}
