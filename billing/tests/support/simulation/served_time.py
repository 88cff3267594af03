"""A tenant's account: money against the price of the time that was served, in cents.

captured - given back - taken back + still owed + written off
    = price (after discounts, with taxes) * served time + closing credit

Everything but the credit that waits to be posted comes from Stripe and our own wallet.
What staff gave back beyond the unserved time is a gift, and stands on the left.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from billing.models import Credit
from billing.tests.support.simulation.balances import tenant_invoices
from billing.tests.support.simulation.invoice_money import (
    InvoiceMoney,
    cost_after,
    cost_of,
    cost_of_item,
    money_of,
    paid_outside,
    share_after,
    subscription_of,
)
from billing.tests.support.simulation.price_history import (
    idle_since,
    relay_changes,
    used_cents,
)
from billing.tests.support.simulation.system import System
from sandbox.stripe.store.records import Record
from tenants.models import Tenant


@dataclass(frozen=True)
class Account:
    """A tenant's money and served time, in cents.

    `lag` is the price of the time between the end of the last relay and that of its
    subscription: either is the end of the service. `held` is the unserved time on
    drafts of ended subscriptions: it may be credited once they are released.
    `min_gift` and `max_gift`: what was given back beyond the unserved time; several
    invoices of one subscription may share what one of them gave back too much.
    """

    captured: int
    returned: int
    owed: int
    written_off: int
    pending: Fraction
    billed: Fraction
    credit: int
    used: float
    held: Fraction
    min_gift: Fraction
    max_gift: Fraction
    lag: Fraction
    rounded: int

    @property
    def excess(self) -> float:
        """Amount paid or owed beyond the served time, before gifts."""
        money = self.captured - self.returned + self.owed + self.written_off
        return float(money + self.pending - self.billed - self.credit)

    @property
    def is_balanced(self) -> bool:
        """Return whether it matches, up to half a cent for each rounded amount."""
        tolerance = self.rounded / 2 + 0.5
        low = -self.max_gift - self.lag
        high = self.held - self.min_gift
        return float(low) - tolerance <= self.excess <= float(high) + tolerance


def account_faults(system: System) -> list[str]:
    """Return a line for each tenant whose money does not match its served time.

    Some tenants are excluded: see `System.exclude_from_balance`.
    """
    tenants = Tenant.objects.exclude(pk__in=system.excluded_tenants)
    return [fault for tenant in tenants for fault in _imbalance(system, tenant)]


def account_for(system: System, tenant: Tenant) -> Account:
    """Return a tenant's account up to now."""
    return _Books(system, tenant).account()


def invoice_moneys(system: System, tenant: Tenant) -> list[InvoiceMoney]:
    """Return the money of each of a tenant's invoices, except void ones."""
    return _Books(system, tenant).moneys


def _imbalance(system: System, tenant: Tenant) -> Iterator[str]:
    account = account_for(system, tenant)
    if not account.is_balanced:
        yield f"{tenant.pk} paid {account.excess:.2f} too much: {account}"


class _Books:
    """The objects from which a tenant's account is computed."""

    def __init__(self, system: System, tenant: Tenant) -> None:
        self.system, self.tenant = system, tenant
        self.store = system.stripe.app.store
        all = tenant_invoices(system)
        self.invoices = [
            each for each in all if system.owner_of(each["customer"]) == tenant.pk
        ]
        self.billed = [each for each in self.invoices if each["status"] != "void"]
        self.relays = relay_changes(tenant)
        self.moneys = [
            money_of(system, each, self._ended_at(subscription_of(each)))
            for each in self.billed
        ]
        self.pending = _pending_items(system, tenant)
        self.deleted = [
            item
            for subscription in self._ended()
            for item in system.history.items_deleted_with(subscription)
        ]

    def account(self) -> Account:
        lines = [line for each in self.billed for line in each["_lines"]]
        now = self.system.now.timestamp()
        return Account(
            captured=sum(self._captured(each) for each in self.invoices),
            returned=sum(self._returned(each) for each in self.moneys),
            owed=sum(_owed(each) + each.debt for each in self.moneys),
            written_off=sum(_written_off(each) for each in self.moneys),
            pending=sum(map(self._cost, self.pending), Fraction()),
            billed=self._billed(lines),
            credit=_credit(self.system, self.tenant),
            used=used_cents(self.relays, _periods(lines), now),
            held=sum(map(_held, self.moneys), Fraction()),
            min_gift=self._min_gift(),
            max_gift=sum((each.gift for each in self.moneys), Fraction()),
            lag=self._lag(),
            rounded=len(lines) + len(self.pending) + len(self.deleted),
        )

    def _captured(self, invoice: Record) -> int:
        return money_of(self.system, invoice, None).captured

    def _returned(self, money: InvoiceMoney) -> int:
        outside = paid_outside(self.system, money.id)
        return money.refunded + outside + money.taken

    def _min_gift(self) -> Fraction:
        """Return the gifts if invoices of one subscription share what is unserved."""
        gifts: dict[str, Fraction] = defaultdict(Fraction)
        for money in self.moneys:
            gifts[money.subscription] += money.lost - max(money.unserved, Fraction())
        return sum((max(gift, Fraction()) for gift in gifts.values()), Fraction())

    def _billed(self, lines: Iterable[Record]) -> Fraction:
        """Return the price of served time, and of time paid in advance."""
        total = Fraction(sum(map(cost_of, lines)))
        total -= sum((each.unserved for each in self.moneys), Fraction())
        total += sum(map(self._cost, self.pending), Fraction())
        total -= sum((self._unserved_item(each) for each in self.pending), Fraction())
        return total + sum(map(self._served_item, self.deleted), Fraction())

    def _cost(self, item: Record) -> Fraction:
        return cost_of_item(self.store, item)

    def _unserved_item(self, item: Record) -> Fraction:
        ended = self._ended_at(_subscription_of_item(item))
        return (
            Fraction() if ended is None else self._cost(item) * share_after(item, ended)
        )

    def _served_item(self, item: Record) -> Fraction:
        return self._cost(item) - self._unserved_item(item)

    def _lag(self) -> Fraction:
        """Return the price of time in which no relay ran before the end."""
        lag = Fraction()
        for subscription in self._ended():
            end = subscription["ended_at"]
            since = self._idle_since(subscription, end)
            for invoice in self.billed:
                if subscription_of(invoice) == subscription["id"]:
                    lines = invoice["_lines"]
                    lag += abs(cost_after(lines, since) - cost_after(lines, end))
        return lag

    def _idle_since(self, subscription: Record, end: int) -> float:
        if subscription["id"] in self.system.duplicates:
            return float(subscription["created"])
        return idle_since(self.relays, end)

    def _ended(self) -> list[Record]:
        return [
            record
            for record in self.store.scan("subscription")
            if record["ended_at"]
            and self.system.owner_of(record["customer"]) == self.tenant.pk
        ]

    def _ended_at(self, subscription: str) -> int | None:
        record = self.store.get("subscription", subscription)
        return record["ended_at"] if record else None


def _owed(money: InvoiceMoney) -> int:
    return money.remaining if money.status in ("draft", "open") else 0


def _held(money: InvoiceMoney) -> Fraction:
    return max(Fraction(), money.unserved) if money.status == "draft" else Fraction()


def _written_off(money: InvoiceMoney) -> int:
    return money.remaining if money.status == "uncollectible" else 0


def _credit(system: System, tenant: Tenant) -> int:
    """Return the credit on the customer balance or still to be posted."""
    owed = Credit.objects.owed().filter(tenant=tenant)
    # Credit is a negative balance.
    balance = sum(int(customer["balance"]) for customer in _customers(system, tenant))
    return sum(int(credit.amount_cents) for credit in owed) - balance


def _pending_items(system: System, tenant: Tenant) -> list[Record]:
    """Return invoice items that are not on an invoice yet."""
    scan = system.stripe.app.store.scan
    return [
        item
        for customer in _customers(system, tenant)
        for item in scan("invoiceitem", index=("customer", customer["id"]))
        if item["invoice"] is None
    ]


def _customers(system: System, tenant: Tenant) -> list[Record]:
    customers = system.stripe.app.store.scan("customer")
    return [
        customer
        for customer in customers
        if not customer.get("deleted") and system.owner_of(customer["id"]) == tenant.pk
    ]


def _subscription_of_item(item: Record) -> str:
    details = (item["parent"] or {}).get("subscription_details") or {}
    return str(details.get("subscription") or "")


def _periods(lines: Iterable[Record]) -> list[tuple[int, int]]:
    """Return the billing periods, from the lines that are not prorations."""
    regular = (line for line in lines if not _is_proration(line))
    periods = {(line["period"]["start"], line["period"]["end"]) for line in regular}
    return sorted(periods)


def _is_proration(line: Record) -> bool:
    parent = line["parent"]
    details = parent["subscription_item_details"] or parent["invoice_item_details"]
    return bool(details["proration"])
