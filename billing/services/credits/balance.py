"""The second part of posting a credit: what a customer has with us at Stripe."""

from django.db import transaction

from billing.clients.stripe.client import BalanceTransaction, Stripe
from billing.exceptions import CreditBlocked, StripeRefused
from billing.models import Credit, StripeWrite
from billing.services.customers.customer import clear_customer, is_gone
from billing.services.stripe_writes import writes
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

_BALANCE = StripeWrite.Kind.CHANGE_BALANCE


def adjust_customer_balance(stripe: Stripe, credit: Credit) -> None:
    """Put what is left of a credit on the balance of the tenant's customer.

    Raises CreditBlocked while there is none.
    """
    intent = _balance_intent(credit)
    if intent is None:
        return
    customer = intent.params["customer"]
    try:
        made = writes.resume(
            intent,
            send=lambda params, key: stripe.create_balance_transaction(
                customer, params["transaction"], key
            ),
            find=lambda intent: _find_transaction(stripe, credit, customer),
        )
    except StripeRefused:
        if not is_gone(stripe, customer):
            raise
        return _leave_customer(credit, intent, customer)
    if made:
        writes.keep(intent, made, lambda made: _store_transaction(credit, made))


def _balance_intent(credit: Credit) -> StripeWrite | None:
    """Return the pending write, recorded now if need be; None if it is done.

    Raises CreditBlocked while the tenant has no customer.
    """
    with transaction.atomic():
        customer = Tenant.objects.lock(credit.tenant_id).stripe_customer_id
        if Credit.objects.lock(credit.pk).balance_transaction_id:
            return None
        subject = f"credit:{credit.pk}"
        pending = StripeWrite.objects.of(_BALANCE, subject).pending().first()
        if pending:
            return pending
        if not customer:
            raise CreditBlocked("It waits for the tenant's next customer at Stripe.")
        Credit.objects.filter(pk=credit.pk).update(stripe_customer_id=customer)
        return writes.create_write(
            kind=_BALANCE,
            subject=subject,
            tenant_id=credit.tenant_id,
            params=lambda key: {
                "customer": customer,
                "transaction": _transaction(credit),
            },
        )


def _transaction(credit: Credit) -> dict[str, object]:
    return {
        # Of Stripe's balance a negative amount is credit.
        "amount": -(credit.balance_cents or 0),
        "currency": credit.currency,
        "description": credit.description,
        "metadata": credit.stripe_metadata,
    }


def _find_transaction(
    stripe: Stripe, credit: Credit, customer: str
) -> BalanceTransaction | None:
    listed = stripe.list_balance_transactions(customer)
    return next((one for one in listed if credit.matches_metadata(one.metadata)), None)


def _store_transaction(credit: Credit, made: BalanceTransaction) -> None:
    Credit.objects.filter(pk=credit.pk).update(balance_transaction_id=made.id)


def _leave_customer(credit: Credit, intent: StripeWrite, customer: str) -> None:
    """Have the credit wait for another customer: this one was deleted."""
    with transaction.atomic():
        tenant = Tenant.objects.lock(credit.tenant_id)
        if tenant.stripe_customer_id == customer:
            clear_customer(tenant)
            mark_stale(tenant_id=tenant.pk)
        writes.abandon(intent)
