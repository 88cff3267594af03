"""The Stripe account that the database belongs to.

With a key of another account or mode no customer, price or invoice of ours would be
found: relays would run without being billed, or be suspended for invoices that nobody
can pay. So every process compares the two before its first call to Stripe.
"""

from dataclasses import dataclass

from django.db import transaction

from billing.clients.stripe.account import current_account_id
from billing.clients.stripe.client import is_live_key
from billing.clients.stripe.errors import StripeAccountMismatch
from billing.exceptions import StripeAccountInUse
from billing.models import InvoiceCollection, StripeAccount, StripeWrite
from caravel.core.alerts import alert_support
from relays.models import Plan
from tenants.models import Tenant


@dataclass
class Process:
    """State of the check in this process; `mismatch` is "" for the right account."""

    is_checked: bool = False
    mismatch: str = ""


process = Process()


def check_account() -> None:
    """Compare the account of our key with the database's, once per process.

    The first account that is seen becomes the database's. Raises StripeAccountMismatch;
    or another StripeError, and the next call checks again, if Stripe is unavailable.
    """
    if not process.is_checked:
        process.mismatch = _compare(_current_account())
        process.is_checked = True
    if process.mismatch:
        raise StripeAccountMismatch(process.mismatch)


def switch_account() -> StripeAccount:
    """Make the account of our key the database's, while nothing here depends on it.

    Plans lose their prices, which `ensure_prices` creates again. Raises
    StripeAccountInUse if objects of the old account are recorded, or a StripeError.
    """
    account = _current_account()
    with transaction.atomic():
        if _is_in_use():
            raise StripeAccountInUse(
                "The database has customers or invoices of its Stripe account, which "
                "do not exist in another one: use a new database."
            )
        StripeAccount.objects.all().delete()
        account.save()
        Plan.objects.update(stripe_price_id=None)
    process.is_checked, process.mismatch = True, ""
    return account


def _current_account() -> StripeAccount:
    return StripeAccount(account_id=current_account_id(), livemode=is_live_key())


def _compare(current: StripeAccount) -> str:
    """Return how the account differs from the database's, "" if it does not."""
    with transaction.atomic():
        # Of two processes that are the first, one stores its account.
        StripeAccount.objects.bulk_create([current], ignore_conflicts=True)
        stored = StripeAccount.objects.get()
    if str(stored) == str(current):
        return ""
    message = (
        f"The database belongs to the Stripe account {stored}, but STRIPE_SECRET_KEY "
        f"is a key of {current}. Nothing is sent to Stripe. Set a key of {stored} and "
        "restart all processes; for another account use a new database, or, if this "
        "one has no customers yet, `manage.py stripe_setup --switch-account`."
    )
    alert_support(
        "stripe_account_mismatch", message, database=str(stored), key=str(current)
    )
    return message


def _is_in_use() -> bool:
    return (
        StripeWrite.objects.exists()
        or InvoiceCollection.objects.exists()
        or Tenant.objects.filter(stripe_customer_id__isnull=False).exists()
    )
