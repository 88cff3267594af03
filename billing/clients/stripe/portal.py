"""Stripe's customer portal: https://docs.stripe.com/customer-management."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from billing.clients.stripe.transport import StripeTransport, v1, with_idempotency_key
from billing.clients.stripe.types import read_metadata, read_text


@dataclass(frozen=True)
class PortalConfiguration:
    """A portal configuration; `features` maps each name to whether it is on."""

    id: str
    active: bool
    created: int
    features: Mapping[str, bool]
    metadata: Mapping[str, str]


class PortalConfigurations:
    """Calls on portal configurations."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(self, params: Mapping[str, Any], key: str) -> PortalConfiguration:
        """Create a configuration, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        return self._transport.call(
            lambda: v1().billing_portal.configurations.create(args, options),
            read_configuration,
        )

    def update(
        self, configuration_id: str, params: Mapping[str, Any]
    ) -> PortalConfiguration:
        """Update a configuration; Stripe has no call to delete one."""
        args = cast(Any, dict(params))
        return self._transport.call(
            lambda: v1().billing_portal.configurations.update(configuration_id, args),
            read_configuration,
        )

    def list(self) -> list[PortalConfiguration]:
        """Return all configurations, also inactive ones, newest first."""
        pages = self._transport.paginate(
            lambda p: v1().billing_portal.configurations.list(p),
            {"limit": 100},
            read_configuration,
        )
        return list(pages)


class PortalSessions:
    """Calls on portal sessions."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def create(self, params: Mapping[str, Any]) -> str:
        """Create a portal session for one customer; return its short-lived URL.

        https://docs.stripe.com/api/customer_portal/sessions/create
        """
        args = cast(Any, dict(params))
        return self._transport.call(
            lambda: v1().billing_portal.sessions.create(args),
            lambda session: read_text(session, "url"),
        )


def read_configuration(found: Any) -> PortalConfiguration:
    features = found.features.to_dict()
    return PortalConfiguration(
        id=found.id,
        active=found.active,
        created=found.created,
        features={name: bool(each["enabled"]) for name, each in features.items()},
        metadata=read_metadata(found),
    )
