"""Prices, coupons and webhook endpoints of the Stripe account."""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from billing.clients.stripe.errors import StripeRefused
from billing.clients.stripe.transport import (
    API_VERSION,
    StripeTransport,
    read_nothing,
    v1,
    with_idempotency_key,
)
from billing.clients.stripe.types import (
    Coupon,
    Price,
    read_coupon,
    read_price,
    read_text,
)


class Prices:
    """Calls on prices."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, price_id: str) -> Price:
        """Return a price. Raises StripeNotFound."""
        return self._transport.call(
            lambda: v1().prices.retrieve(price_id, {"expand": ["product"]}), read_price
        )

    def find(self, lookup_key: str) -> Price | None:
        """Return the active price with this lookup key."""
        params: Any = {
            "lookup_keys": [lookup_key],
            "active": True,
            "expand": ["data.product"],
        }
        return self._transport.call(
            lambda: v1().prices.list(params),
            lambda page: read_price(page.data[0]) if page.data else None,
        )

    def create(self, params: Mapping[str, Any], key: str) -> str:
        """Create a price, once per idempotency key; return its id."""
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().prices.create(args, options),
            lambda price: read_text(price, "id"),
        )


class Coupons:
    """Calls on coupons."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, coupon_id: str) -> Coupon:
        """Return a coupon. Raises StripeNotFound, also for a deleted one."""
        return self._transport.call(
            lambda: v1().coupons.retrieve(coupon_id, {"expand": ["applies_to"]}),
            read_coupon,
        )

    def ensure(self, params: Mapping[str, Any]) -> str:
        """Create a coupon unless there is one with its id; return the id."""
        try:
            return self._transport.call(
                lambda: v1().coupons.create(cast(Any, dict(params))),
                lambda coupon: read_text(coupon, "id"),
            )
        except StripeRefused as exc:
            if exc.stripe_code != "resource_already_exists":
                raise
            return str(params["id"])


class WebhookEndpoints:
    """Calls on webhook endpoints."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def find(self, url: str) -> tuple[str, list[str]] | None:
        """Return the id and event types of the enabled endpoint at a URL."""
        return self._transport.call(
            lambda: v1().webhook_endpoints.list({"limit": 100}),
            partial(_find_endpoint, url),
        )

    def set_events(self, endpoint_id: str, events: list[str]) -> None:
        """Set the event types that Stripe sends to an endpoint."""
        args = cast(Any, {"enabled_events": events})
        self._transport.call(
            lambda: v1().webhook_endpoints.update(endpoint_id, args), read_nothing
        )

    def create(self, url: str, events: list[str]) -> str:
        """Create an endpoint at our API version; return its signing secret."""
        params = {"url": url, "enabled_events": events, "api_version": API_VERSION}
        return self._transport.call(
            lambda: v1().webhook_endpoints.create(cast(Any, params)),
            lambda created: read_text(created, "secret"),
        )


def _find_endpoint(url: str, page: Any) -> tuple[str, list[str]] | None:
    for endpoint in page.data:
        if endpoint.url == url and endpoint.status == "enabled":
            return endpoint.id, list(endpoint.enabled_events)
    return None
