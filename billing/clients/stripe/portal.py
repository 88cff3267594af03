"""Stripe's customer portal: https://docs.stripe.com/customer-management."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from billing.clients.stripe.transport import StripeTransport, v1, with_idempotency_key


@dataclass(frozen=True)
class PortalConfiguration:
    """A portal configuration; `features` maps each name to whether it is on."""

    id: str
    active: bool
    created: int
    features: Mapping[str, bool]
    metadata: Mapping[str, str]


class PortalCalls(StripeTransport):
    """Calls on the customer portal."""

    def list_portal_configurations(self) -> list[PortalConfiguration]:
        """Return all configurations, also inactive ones, newest first."""
        pages = self._paginate(
            lambda p: v1().billing_portal.configurations.list(p), {"limit": 100}
        )
        return [_read_configuration(found) for found in pages]

    def create_portal_configuration(
        self, params: Mapping[str, Any], key: str
    ) -> PortalConfiguration:
        """Create a configuration, once per idempotency key."""
        args, options = with_idempotency_key(params, key)
        return _read_configuration(
            self._call(lambda: v1().billing_portal.configurations.create(args, options))
        )

    def update_portal_configuration(
        self, configuration_id: str, params: Mapping[str, Any]
    ) -> PortalConfiguration:
        """Update a configuration; Stripe has no call to delete one."""
        args = cast(Any, dict(params))
        return _read_configuration(
            self._call(
                lambda: v1().billing_portal.configurations.update(
                    configuration_id, args
                )
            )
        )

    def create_portal_session(self, params: Mapping[str, Any]) -> str:
        """Create a portal session for one customer; return its short-lived URL.

        https://docs.stripe.com/api/customer_portal/sessions/create
        """
        args = cast(Any, dict(params))
        made = self._call(lambda: v1().billing_portal.sessions.create(args))
        return str(made.url)


def _read_configuration(found: Any) -> PortalConfiguration:
    features = found.features.to_dict()
    return PortalConfiguration(
        id=found.id,
        active=found.active,
        created=found.created,
        features={name: bool(each["enabled"]) for name, each in features.items()},
        metadata=found.metadata.to_dict() if found.metadata else {},
    )
