import secrets
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from caravel.exceptions import CaravelError
from caravel.nostr import parse_pubkey
from lightning.models import NwcPayment
from lightning.services.invoices import Bill, offer_invoice
from lightning.services.payments import start_payment
from tenants.models import Tenant

POLL = 0.2
#: Seconds beyond a wallet's own time in which our wallet is asked.
GRACE = 10
State = NwcPayment.State


class Command(BaseCommand):
    help = "For development: bill a tenant over Lightning for an invoice made up here."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="an npub, or 64 hex digits")
        parser.add_argument("cents", type=int, help="in the currency's minor unit")
        parser.add_argument("--currency", default="usd")
        parser.add_argument(
            "--by",
            choices=["wallet", "hand"],
            default="wallet",
            help="ask the tenant's wallet, or print an invoice for a person to pay",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("This is for development: it asks for DEBUG=true.")
        if options["cents"] < 1:
            raise CommandError("There is nothing to pay.")
        try:
            bill = _bill(options["tenant"], options["cents"], options["currency"])
            if options["by"] == "hand":
                self._offer(bill)
            else:
                self._follow(start_payment(bill=bill))
        except CaravelError as exc:
            raise CommandError(exc.message) from exc

    def _offer(self, bill: Bill) -> None:
        invoice = offer_invoice(bill=bill)
        self.stdout.write(
            f"{invoice.amount_msat // 1_000:,} sats, until "
            f"{invoice.expires_at:%H:%M:%S} UTC:\n{invoice.bolt11}"
        )

    def _follow(self, payment: NwcPayment) -> None:
        """Wait for the workers to bring about the attempt's outcome, and say it."""
        sats = payment.invoice.amount_msat // 1_000
        self.stdout.write(f"Asking the tenant's wallet for {sats:,} sats…")
        deadline = time.monotonic() + settings.NWC_TIMEOUT + GRACE
        while payment.state == State.PENDING and time.monotonic() < deadline:
            time.sleep(POLL)
            payment.refresh_from_db()
        if payment.state != State.PAID:
            why = f"{payment.code} {payment.message}".strip()
            raise CommandError(f"The payment is {payment.state}: {why or 'no reply'}")
        self.stdout.write("Paid: our own wallet says so.")


def _bill(tenant: str, cents: int, currency: str) -> Bill:
    pubkey = parse_pubkey(tenant)
    if not Tenant.objects.filter(pk=pubkey).exists():
        raise CommandError("There is no such tenant.")
    return Bill(
        tenant_id=pubkey,
        stripe_invoice_id=f"in_sandbox_{secrets.token_hex(8)}",
        amount_cents=cents,
        currency=currency,
        description="Caravel, to try Lightning",
    )
