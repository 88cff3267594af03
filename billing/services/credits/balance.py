"""Second step of posting a credit: the customer's balance at Stripe."""

from typing import Any

from django.db import transaction

from billing.clients.stripe.client import BalanceTransaction, Stripe
from billing.exceptions import CreditBlocked, CustomerGone
from billing.models import Credit, StripeWrite
from billing.services.customers.customer import clear_customer, detect_deleted_customer
from billing.services.stripe_writes import writes
from billing.services.stripe_writes.writes import Write
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant


class AdjustBalance(Write[BalanceTransaction]):
    """Change the balance of the customer that the credit names."""

    kind = StripeWrite.Kind.CHANGE_BALANCE

    def __init__(self, stripe: Stripe, credit: Credit) -> None:
        super().__init__(subject=f"credit:{credit.pk}", tenant_id=credit.tenant_id)
        self._stripe = stripe
        self._credit = credit

    def params(self, key: str) -> dict[str, Any]:
        credit = self._credit
        return {
            "customer": credit.stripe_customer_id,
            "transaction": {
                # Negative amounts are credit:
                # https://docs.stripe.com/billing/customer/balance
                "amount": -(credit.balance_cents or 0),
                "currency": credit.currency,
                "description": credit.description,
                "metadata": credit.stripe_metadata,
            },
        }

    def send(self, params: dict[str, Any], key: str) -> BalanceTransaction:
        return self._stripe.customer_balance_transactions.create(
            params["customer"], params["transaction"], key
        )

    def find(self, write: StripeWrite) -> BalanceTransaction | None:
        customer = write.params["customer"]
        for entry in self._stripe.customer_balance_transactions.list(customer):
            if self._credit.matches_metadata(entry.metadata):
                return entry
        return None

    def save(self, resource: BalanceTransaction) -> None:
        rows = Credit.objects.filter(pk=self._credit.pk)
        rows.update(balance_transaction_id=resource.id)


def adjust_customer_balance(stripe: Stripe, credit: Credit) -> None:
    """Put the rest of a credit on the balance of the tenant's customer.

    Raises CreditBlocked while the tenant has no customer.
    """
    adjustment = AdjustBalance(stripe, credit)
    write = _get_or_record(adjustment, credit)
    if write is None:
        return
    customer = write.params["customer"]
    try:
        with detect_deleted_customer(stripe, customer, param=None):
            entry = adjustment.resume(write)
    except CustomerGone:
        return _wait_for_new_customer(credit, write, customer)
    if entry:
        adjustment.complete(write, entry)


def _get_or_record(adjustment: AdjustBalance, credit: Credit) -> StripeWrite | None:
    """Return the pending write, recording one if needed; None if it has succeeded."""
    with transaction.atomic():
        customer = Tenant.objects.lock(credit.tenant_id).stripe_customer_id
        if Credit.objects.lock(credit.pk).balance_transaction_id:
            return None
        if write := adjustment.pending():
            return write
        if not customer:
            raise CreditBlocked("It waits for the tenant's next customer at Stripe.")
        # With the write, so that a retry is for the customer that the request named.
        Credit.objects.filter(pk=credit.pk).update(stripe_customer_id=customer)
        credit.stripe_customer_id = customer
        return adjustment.record()


def _wait_for_new_customer(credit: Credit, write: StripeWrite, customer: str) -> None:
    """Abandon a write whose customer was deleted; the next one gets the credit."""
    with transaction.atomic():
        tenant = Tenant.objects.lock(credit.tenant_id)
        # The tenant may have another customer by now.
        if tenant.stripe_customer_id == customer:
            clear_customer(tenant)
            mark_stale(tenant_id=tenant.pk)
        writes.mark_abandoned(write)
