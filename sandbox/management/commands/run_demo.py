import time
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from billing.models import InvoiceCollection, Reversal
from sandbox.demo.readiness import NotReady, wait_until, wait_until_ready
from sandbox.demo.scenario import (
    Demo,
    DemoTenant,
    TenantBalance,
    tenant_balance,
    unused_cents,
)
from sandbox.demo.tenant_client import fetch_relay

ALICE = DemoTenant("Alice", ("growth",))
BOB = DemoTenant("Bob", ("basic", "basic"))
CAROL = DemoTenant("Carol", ("basic",))
DAVE = DemoTenant("Dave", ("basic",))
TENANTS = (ALICE, BOB, CAROL, DAVE)
#: Prices of the plans, in cents.
BASIC, GROWTH = 500, 2_500

Condition = Callable[[], bool]


class Command(BaseCommand):
    help = "Run the demo: four tenants over two months, with all amounts checked."

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        self.demo = Demo()
        self.errors: list[str] = []
        try:
            self._run_steps()
        except NotReady as exc:
            raise CommandError(str(exc)) from exc
        rows = [tenant_balance(self.demo, tenant) for tenant in TENANTS]
        self._print_table(rows)
        self._check_balances(rows)
        seconds = time.monotonic() - started
        self.stdout.write(f"All amounts agree, after {seconds:.0f} s.")

    def _run_steps(self) -> None:
        demo = self.demo
        wait_until_ready(f"{settings.APP_URL}/readyz")
        self._sign_up()
        self._step("Bob saves a card", lambda: demo.add_card(BOB), self._paid(1, BOB))
        self._step(
            "Carol requests a Lightning invoice from the API and pays it by phone",
            lambda: demo.pay_by_hand(CAROL),
            self._paid(1, CAROL),
        )
        self._suspend_dave()
        self._reactivate_dave()
        self._renew()
        self._take_back()

    def _sign_up(self) -> None:
        def sign_up() -> None:
            for tenant in TENANTS:
                self.demo.sign_up(tenant)
                if tenant is ALICE:
                    self.demo.open_wallet(ALICE)

        self._step(
            "Four tenants sign in with their keys; Alice connects a wallet",
            sign_up,
            self._paid(1, ALICE),
        )
        self._show_relay(DAVE)
        statuses = [invoice.status for invoice in self.demo.invoices(DAVE)]
        self._check(statuses == ["open"], f"Dave's invoices are {statuses}")

    def _suspend_dave(self) -> None:
        """Let the grace period of Dave's first invoice end."""
        self._wait("Four days pass without a payment from Dave", days=4, minutes=5)
        self._wait("Two more days pass", days=2)
        self._wait("The seventh day ends", self._relay_answers(DAVE, 404), days=1)
        self._show_relay(DAVE)
        (ended,) = self.demo.subscriptions(DAVE, "canceled")
        (first,) = self.demo.invoices(DAVE)
        self.dave_owes = BASIC - unused_cents(first, ended.canceled_at)
        self._check(
            first.amount_remaining == self.dave_owes,
            f"Dave owes {first.amount_remaining}, not {self.dave_owes}",
        )
        self.stdout.write(
            f"  Dave's relay is off and his subscription has ended; he owes "
            f"{_dollars(self.dave_owes)} for the days until then."
        )

    def _reactivate_dave(self) -> None:
        self._step(
            f"Dave follows the link in his messages and pays "
            f"{_dollars(self.dave_owes)} by Lightning",
            lambda: self.demo.pay_on_payment_page(DAVE),
            lambda: self._relay_answers(DAVE, 200)() and self._awaits_payment(DAVE),
        )
        self._show_relay(DAVE)
        self._step(
            "Dave connects a wallet, which pays for the new month",
            lambda: self.demo.open_wallet(DAVE),
            self._paid(2, DAVE),
        )

    def _renew(self) -> None:
        """Advance a month: payments go wrong, and everything is still paid."""

        def prepare() -> None:
            self.demo.add_card(ALICE)
            self.demo.set_wallet_behaviour(ALICE, "refuses")
            self.demo.open_wallet(CAROL)
            self.demo.set_wallet_behaviour(CAROL, "never-answers")

        self._step(
            "Alice's wallet runs out of funds and she saves a card; Carol connects a "
            "wallet whose replies get lost",
            prepare,
        )
        # A calendar month, which has 28 to 31 days.
        seconds = self.demo.seconds_until_renewal(ALICE, BOB, CAROL)
        self._wait("A month after the first invoices", seconds=seconds, hours=2)
        paid = self._paid(2, ALICE, BOB, CAROL)
        self._wait("Stripe finalizes the renewals", paid, hours=2)
        self._check_rails(ALICE, "wallet", "card")
        self._check_rails(CAROL, "lightning", "wallet")

    def _take_back(self) -> None:
        """Give money back, and have a bank take some: it is owed and paid again."""
        self._step(
            f"The operator refunds {_dollars(BASIC)} of Bob's payment at Stripe",
            lambda: self.demo.refund(BOB, BASIC),
            lambda: Reversal.objects.refunds().filter(tenant=BOB.pubkey).exists(),
        )
        self._step(
            f"Alice's bank disputes her card payment and takes {_dollars(GROWTH)} back",
            lambda: self.demo.dispute(ALICE),
            self._owes_again(ALICE, GROWTH),
        )
        self._step(
            f"Alice follows the link in her message and pays {_dollars(GROWTH)} again",
            lambda: self.demo.pay_on_payment_page(ALICE),
            self._owes_again(ALICE, 0),
        )

    def _owes_again(self, tenant: DemoTenant, cents: int) -> Condition:
        """Condition: the tenant owes this much of payments that were disputed."""
        rows = InvoiceCollection.objects.filter(tenant=tenant.pubkey)
        debts = rows.values_list("dispute_debt_cents", flat=True)
        return lambda: sum(debts.all()) == cents

    def _step(
        self, text: str, act: Callable[[], object], until: Condition = lambda: True
    ) -> None:
        """Run an action, then wait until the condition holds and the system is idle."""
        self.stdout.write(f"{text}…", ending=" ")
        self.stdout.flush()
        started = time.monotonic()
        act()
        wait_until(
            lambda: until() and self.demo.is_idle(), seconds=90, event=f"“{text}”"
        )
        self.stdout.write(f"done after {time.monotonic() - started:.1f} s")

    def _wait(self, text: str, until: Condition = lambda: True, **delta: float) -> None:
        self._step(text, lambda: self.demo.advance_clock(**delta), until)

    def _check(self, holds: bool, error: str) -> None:
        if not holds:
            self.errors.append(error)

    def _paid(self, count: int, *tenants: DemoTenant) -> Condition:
        """Condition: each tenant has `count` invoices, all paid and closed."""
        rows = InvoiceCollection.objects.values_list("stripe_status", "state")
        return lambda: all(
            list(rows.filter(tenant=tenant.pubkey)) == [("paid", "closed")] * count
            for tenant in tenants
        )

    def _awaits_payment(self, tenant: DemoTenant) -> bool:
        """Return whether Caravel waits for the tenant to pay an invoice by hand."""
        # The next step connects a wallet. If it came before Caravel knows the invoice,
        # the wallet would pay at once and the tenant would get no message.
        rows = InvoiceCollection.objects.filter(
            tenant=tenant.pubkey, stripe_status="open"
        )
        return rows.filter(state=InvoiceCollection.State.MANUAL).exists()

    def _relay_answers(self, tenant: DemoTenant, status: int) -> Condition:
        """Condition: the tenant's first relay answers with this HTTP status."""
        return lambda: fetch_relay(tenant.subdomains[0]).status_code == status

    def _show_relay(self, tenant: DemoTenant) -> None:
        """Fetch the NIP-11 document of the tenant's first relay, and print it."""
        subdomain = tenant.subdomains[0]
        response = fetch_relay(subdomain)
        self.stdout.write(
            f"  http://{subdomain}.{settings.RELAY_DOMAIN} answers "
            f"{response.status_code}: {response.text.strip()}"
        )

    def _check_rails(self, tenant: DemoTenant, *expected: str) -> None:
        rows = InvoiceCollection.objects.filter(tenant=tenant.pubkey)
        rails = tuple(rows.order_by("created_at").values_list("paid_by", flat=True))
        self._check(rails == expected, f"{tenant.name}'s invoices were paid by {rails}")

    def _check_balances(self, rows: Sequence[TenantBalance]) -> None:
        owed = self.dave_owes
        # Billed, credited, paid by wallet, by card and by hand, refunded, disputed,
        # open, receipts.
        expected = {
            "Alice": [
                *(2 * GROWTH, 0, GROWTH, GROWTH, GROWTH),
                *(0, GROWTH, 0, 2 * GROWTH),
            ],
            "Bob": [4 * BASIC, 0, 0, 4 * BASIC, 0, BASIC, 0, 0, 4 * BASIC],
            "Carol": [2 * BASIC, 0, BASIC, 0, BASIC, 0, 0, 0, 2 * BASIC],
            "Dave": [2 * BASIC, BASIC - owed, BASIC, 0, owed, 0, 0, 0, BASIC + owed],
        }
        messages = {"Alice": 1, "Bob": 1, "Carol": 1, "Dave": 6}
        for row in rows:
            name, amounts = row.name, [*row.amounts.values()]
            self._check(amounts == expected[name], f"{name}: wrong amounts, {row}")
            got = row.messages
            self._check(got == messages[name], f"{name} got {got} messages")
        missing = self.demo.count_missing_events()
        self._check(missing == 0, f"{missing} of Stripe's events have not arrived")
        self._check(
            self.demo.is_platform_balanced(),
            "our wallet's balance is not the sum of the settled invoices",
        )
        if self.errors:
            raise CommandError("; ".join(self.errors))

    def _print_table(self, rows: Sequence[TenantBalance]) -> None:
        layout = "  {:<7} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>9}  "
        layout += "{:<26} {:>8}"
        heads = ("tenant", *rows[0].amounts, "relays", "messages")
        self.stdout.write("\n" + layout.format(*heads))
        for row in rows:
            sums = map(_dollars, row.amounts.values())
            line = layout.format(row.name, *sums, row.relays, row.messages)
            self.stdout.write(line)
        texts = "\n\n".join(
            indent(text, "  ") for text in self.demo.messages(DAVE)[2:5]
        )
        self.stdout.write(
            f"\nMessages to Dave, from the day before the suspension to the payment:"
            f"\n\n{texts}\n"
        )


def _dollars(cents: int) -> str:
    return f"${cents / 100:.2f}"
