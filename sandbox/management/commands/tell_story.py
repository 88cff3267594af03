import time
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from billing.models import InvoiceCollection
from relays.models import Relay
from sandbox.readiness import NotReady, answers, wait_until
from sandbox.story import (
    Person,
    Row,
    World,
    account,
    received_msat,
    unserved,
)

ALICE = Person("Alice", ("growth",))
BOB = Person("Bob", ("basic", "basic"))
CAROL = Person("Carol", ("basic",))
DAVE = Person("Dave", ("basic",))
CAST = (ALICE, BOB, CAROL, DAVE)
BASIC, GROWTH = 500, 2_500


Condition = Callable[[], bool]


def always() -> bool:
    """What is awaited where being quiet is enough."""
    return True


class Command(BaseCommand):
    help = "The demo: two months of four tenants, told and checked."

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        self.world = World()
        self.faults: list[str] = []
        try:
            self._tell()
        except NotReady as exc:
            raise CommandError(str(exc)) from exc
        rows = [account(self.world, person) for person in CAST]
        self._table(rows)
        self._judge(rows)
        self.stdout.write(f"All agree, after {time.monotonic() - started:.0f} s.")

    def _tell(self) -> None:
        world = self.world
        ready = f"{settings.APP_URL}/readyz"
        wait_until(lambda: answers(ready), seconds=60, what="the web's first answer")
        self._arrive()
        self._act("Bob saves a card", lambda: world.add_card(BOB), self._paid(BOB, 1))
        self._act(
            "Carol asks the API for a Lightning invoice, and pays it from her phone",
            lambda: world.pay_by_hand(CAROL),
            self._paid(CAROL, 1),
        )
        self._suspend_dave()
        self._let_dave_return()
        self._renew()

    def _arrive(self) -> None:
        def arrive() -> None:
            for person in CAST:
                self.world.arrive(person)
                if person is ALICE:
                    self.world.open_wallet(ALICE)

        self._act(
            "Four tenants sign in with their keys; Alice connects a wallet",
            arrive,
            self._paid(ALICE, 1),
        )
        self._expect(DAVE, "open")

    def _suspend_dave(self) -> None:
        """Let the grace of Dave's first invoice run out."""
        self._pass("Four days pass, and Dave has not paid", days=4, minutes=5)
        self._pass("Two more", days=2)
        self._pass("The seventh ends", self._is(DAVE, "delinquent"), days=1)
        (ended,) = self.world.subscriptions(DAVE, "canceled")
        (first,) = self.world.invoices(DAVE)
        self.dave_owes = BASIC - unserved(first, ended.canceled_at)
        self._check(
            first.amount_remaining == self.dave_owes,
            f"Dave is asked for {first.amount_remaining}, not {self.dave_owes}",
        )
        self.stdout.write(
            f"  His relay is off, his subscription over; he owes "
            f"{_dollars(self.dave_owes)} for the days it was served."
        )

    def _let_dave_return(self) -> None:
        self._act(
            f"Dave follows the link in his messages, and pays his "
            f"{_dollars(self.dave_owes)} by Lightning",
            lambda: self.world.pay_by_link(DAVE),
            lambda: self._is(DAVE, "active")() and self._waits_for(DAVE),
        )
        self._act(
            "He connects a wallet, which pays the month that begins",
            lambda: self.world.open_wallet(DAVE),
            self._paid(DAVE, 2),
        )

    def _renew(self) -> None:
        """A month later nothing goes smoothly, and everything is paid."""

        def prepare() -> None:
            self.world.add_card(ALICE)
            self.world.behave(ALICE, "refuses")
            self.world.open_wallet(CAROL)
            self.world.behave(CAROL, "never-answers")

        self._act(
            "Alice's wallet runs dry, she saves a card; Carol connects a wallet "
            "whose replies get lost",
            prepare,
        )
        self._pass("A month has passed since the first invoices", days=23, hours=2)
        renewed = [self._paid(person, 2) for person in (ALICE, BOB, CAROL)]
        self._pass(
            "Stripe finalizes the renewals",
            lambda: all(each() for each in renewed),
            hours=2,
        )
        self._check(
            self._paid_by(ALICE) == ["wallet", "card"],
            f"Alice's invoices were paid by {self._paid_by(ALICE)}",
        )
        self._check(
            self._paid_by(CAROL) == ["lightning", "wallet"],
            f"Carol's invoices were paid by {self._paid_by(CAROL)}",
        )

    # --- telling

    def _act(
        self, sentence: str, act: Callable[[], object], until: Condition = always
    ) -> None:
        """Do something, and wait until it came about and nothing is left to be done."""
        self.stdout.write(f"{sentence}…", ending=" ")
        self.stdout.flush()
        started = time.monotonic()
        act()
        wait_until(
            lambda: until() and self.world.is_quiet(), seconds=90, what=f"“{sentence}”"
        )
        self.stdout.write(f"settled after {time.monotonic() - started:.1f} s")

    def _pass(self, sentence: str, until: Condition = always, **delta: float) -> None:
        self._act(sentence, lambda: self.world.pass_time(**delta), until)

    # --- checking

    def _check(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def _paid(self, person: Person, count: int) -> Condition:
        """Return whether a person has so many invoices, all of them paid, here too."""

        def paid() -> bool:
            rows = InvoiceCollection.objects.filter(tenant=person.pubkey)
            statuses = list(rows.values_list("status", "state"))
            return statuses == [("paid", "closed")] * count

        return paid

    def _waits_for(self, person: Person) -> bool:
        """Return whether a person has been asked here for an invoice, and has not paid.

        Stripe may have it before we do: who connects a wallet then is not asked at all.
        """
        rows = InvoiceCollection.objects.filter(
            tenant=person.pubkey, stripe_status="open"
        )
        return rows.filter(state=InvoiceCollection.State.MANUAL).exists()

    def _is(self, person: Person, status: str) -> Condition:
        relays = Relay.objects.filter(tenant=person.pubkey)
        return lambda: not relays.exclude(status=status).exists()

    def _expect(self, person: Person, *statuses: str) -> None:
        found = tuple(str(i.status) for i in self.world.invoices(person))
        self._check(found == statuses, f"{person.name}'s invoices are {found}")

    def _paid_by(self, person: Person) -> list[str]:
        rows = InvoiceCollection.objects.filter(tenant=person.pubkey)
        return list(rows.order_by("created_at").values_list("paid_by", flat=True))

    def _judge(self, rows: Sequence[Row]) -> None:
        credited = BASIC - self.dave_owes
        expected = {
            "Alice": (2 * GROWTH, 0, GROWTH, GROWTH, 0, 0),
            "Bob": (4 * BASIC, 0, 4 * BASIC, 0, 0, 0),
            "Carol": (2 * BASIC, 0, 0, BASIC, BASIC, 0),
            "Dave": (2 * BASIC, credited, 0, BASIC, self.dave_owes, 0),
        }
        messages = {"Alice": 0, "Bob": 1, "Carol": 1, "Dave": 6}
        for row in rows:
            self._check(row.figures == expected[row.name], f"{row.name} is off: {row}")
            self._check(
                row.messages == messages[row.name],
                f"{row.name} was told {row.messages} times",
            )
            self._check(row.balances, f"{row.name}'s account does not balance")
        lost = self.world.lost_events()
        self._check(lost == 0, f"{lost} events of Stripe's have not arrived")
        self._check(
            self.world.sats_of_platform() == received_msat(),
            "our wallet does not have what was settled",
        )
        if self.faults:
            raise CommandError("; ".join(self.faults))

    def _table(self, rows: Sequence[Row]) -> None:
        layout = "  {:<7} {:>7} {:>9} {:>8} {:>8} {:>8} {:>7} {:>9}  {:<26} {:>8}"
        head = ("tenant", "billed", "credited", "wallet", "card", "by hand", "open")
        last = ("receipts", "relays", "messages")
        self.stdout.write("\n" + layout.format(*head, *last))
        for row in rows:
            sums = map(
                _dollars,
                (
                    *(row.billed, row.credited, row.wallet, row.card, row.by_hand),
                    *(row.open, row.receipted),
                ),
            )
            line = layout.format(row.name, *sums, row.relays, row.messages)
            self.stdout.write(line)
        told = "\n\n".join(map(_indented, self.world.messages(DAVE)[2:5]))
        self.stdout.write(
            f"\nWhat Dave read, from the day before to the end:\n\n{told}\n"
        )


def _dollars(cents: int) -> str:
    return f"${cents / 100:.2f}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
