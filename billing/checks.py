"""System check of STRIPE_SECRET_KEY: a key of the database's own account."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection

from billing.clients.stripe.errors import StripeAccountMismatch, StripeError
from billing.clients.stripe.transport import interactive
from billing.models import StripeAccount
from billing.services.customers.stripe_account import check_account


@register(Tags.database)
def check_stripe_account(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Require a key of the Stripe account that the database belongs to."""
    tables = connection.introspection.table_names
    if not databases or StripeAccount._meta.db_table not in tables():
        return []
    try:
        with interactive():
            check_account()
    except StripeAccountMismatch as exc:
        return [Error(exc.message, id="billing.E001")]
    except StripeError as exc:
        # Lightning and relays must start without Stripe, too: the first call checks.
        text = f"The account of STRIPE_SECRET_KEY is not checked yet: {exc.message}"
        return [Warning(text, id="billing.W001")]
    return []
