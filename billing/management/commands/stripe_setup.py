from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeError
from billing.exceptions import StripeAccountInUse
from billing.services.customers import stripe_account
from billing.services.customers.catalog import ensure_prices
from billing.services.customers.portal import ensure_configurations
from billing.services.events.endpoint import complete_events
from billing.services.events.process import EVENT_TYPES
from billing.services.sync.queue import mark_all_stale


class Command(BaseCommand):
    help = (
        "Set up the Stripe account: a price for each paid plan, the configurations of "
        "the customer portal and, with --webhook-url, the webhook endpoint. "
        "Safe to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--webhook-url",
            help="https://YOUR.HOST/stripe/webhook; its secret is printed only once",
        )
        parser.add_argument(
            "--switch-account",
            action="store_true",
            help="use the account of a new STRIPE_SECRET_KEY; only without customers",
        )

    def handle(
        self,
        *args: Any,
        webhook_url: str | None,
        switch_account: bool,
        **options: Any,
    ) -> None:
        try:
            if switch_account:
                account = stripe_account.switch_account()
                self.stdout.write(f"The database belongs to {account} now.")
            self._set_up(Stripe(), webhook_url)
        except (StripeError, StripeAccountInUse) as exc:
            raise CommandError(str(exc)) from exc
        # The syncs of tenants whose plan had no price wait for a retry: retry now.
        mark_all_stale()

    def _set_up(self, stripe: Stripe, webhook_url: str | None) -> None:
        for price in ensure_prices(stripe):
            verb = "created" if price.created else "found"
            self.stdout.write(f"{price.plan_id}: {verb} {price.price_id}")
        for portal in ensure_configurations(stripe):
            verb = "created" if portal.created else "found"
            self.stdout.write(f"portal {portal.name}: {verb} {portal.id}")
        if webhook_url:
            self._ensure_endpoint(stripe, webhook_url)

    def _ensure_endpoint(self, stripe: Stripe, url: str) -> None:
        if endpoint := complete_events(stripe, url):
            self.stdout.write(
                f"webhook: found {endpoint}; its secret was shown when it was created"
            )
            return
        secret = stripe.webhook_endpoints.create(url, sorted(EVENT_TYPES))
        self.stdout.write(f"webhook: created\nSTRIPE_WEBHOOK_SECRET={secret}")
