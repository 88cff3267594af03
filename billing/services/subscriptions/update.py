"""Changes to a subscription. What Stripe refuses holds nothing else back."""

from collections.abc import Container, Mapping
from typing import Any

import structlog

from billing.clients.stripe.client import Stripe, Subscription
from billing.clients.stripe.errors import StripeRefused
from billing.models import SubscriptionSync
from billing.services.invoices.ownership import TENANT_KEY
from billing.services.subscriptions.create import is_about_items, send_invoice_params
from billing.services.subscriptions.diff import (
    SubscriptionDiff,
    cap_to_current,
    diff_subscriptions,
)
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


class SubscriptionUpdate:
    """The update of one live subscription, in parts if Stripe refuses the whole.

    Afterwards `subscription` is as changed.
    """

    def __init__(
        self, stripe: Stripe, tenant: Tenant, subscription: Subscription
    ) -> None:
        self.subscription = subscription
        self._refusals: dict[str, StripeRefused] = {}
        self._stripe = stripe
        self._tenant = tenant

    def run(self, desired: Mapping[str, int]) -> dict[str, str]:
        """Make the items match, as far as Stripe allows.

        Returns Stripe's message per refused price. If no other item is left, those that
        have to go stay: the subscription has to be cancelled. Raises StripeRefused if
        the items are not the reason.
        """
        try:
            self._apply(desired)
        except StripeRefused as exc:
            logger.warning("update_refused", error=exc.message)
            self._apply_in_parts(desired)
        return {price: exc.message for price, exc in self._refusals.items()}

    def _apply_in_parts(self, desired: Mapping[str, int]) -> None:
        """Decrease and delete first, then make each increase by itself."""
        self._apply(self._cap(desired))
        for price, quantity in desired.items():
            if quantity > self._present().get(price, 0):
                self._increase(price, quantity)
        # What could not go before something else was there.
        self._apply(self._cap(desired, self._refusals))
        for refusal in self._refusals.values():
            if not is_about_items(refusal):
                raise refusal

    def _increase(self, price: str, quantity: int) -> None:
        try:
            self._apply({**self._present(), price: quantity})
        except StripeRefused as exc:
            self._refusals[price] = exc

    def _apply(self, goal: Mapping[str, int]) -> None:
        """Send one update, unless it would change nothing or leave no items."""
        diff = diff_subscriptions(
            goal,
            [self.subscription],
            tenant_pubkey=self._tenant.pubkey,
            current_id=self.subscription.id,
        )
        if goal and diff.needs_update:
            params = {**self._params(diff), **self._quoted_date(goal)}
            self.subscription = self._stripe.subscriptions.update(
                self.subscription.id, params
            )

    def _params(self, diff: SubscriptionDiff) -> dict[str, Any]:
        params: dict[str, Any] = {
            # For decreases too: with `none`, a relay that is switched off and on again
            # would be free (ADR 11).
            "proration_behavior": "create_prorations",
            "metadata": {TENANT_KEY: self._tenant.pubkey},
        }
        if diff.items:
            params["items"] = list(diff.items)
        if diff.needs_send_invoice:
            self._stop_automatic_collection()
            params |= send_invoice_params()
        return params

    def _quoted_date(self, goal: Mapping[str, int]) -> dict[str, int]:
        """Return the date from which Stripe prorates a change as it was quoted.

        None for any other change, nor once a new period has started: Stripe would
        refuse the date.
        """
        rows = SubscriptionSync.objects.filter(pk=self._tenant.pk)
        quoted = rows.values_list("quoted", flat=True).first() or {}
        if quoted.get("items") != goal:
            return {}
        at: int = quoted["at"]
        started = all(item.period_start <= at for item in self.subscription.items)
        return {"proration_date": at} if started else {}

    def _stop_automatic_collection(self) -> None:
        for invoice in self._stripe.invoices.list(subscription=self.subscription.id):
            if invoice.status in {"draft", "open"} and invoice.auto_advance:
                self._stripe.invoices.stop_auto_advance(invoice.id)

    def _present(self) -> dict[str, int]:
        return {item.price: item.quantity or 0 for item in self.subscription.items}

    def _cap(
        self, desired: Mapping[str, int], prices: Container[str] | None = None
    ) -> dict[str, int]:
        return cap_to_current(
            desired,
            [self.subscription],
            current_id=self.subscription.id,
            prices=prices,
        )
