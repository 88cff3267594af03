"""The Stripe account of our key: https://docs.stripe.com/api/accounts."""

import re
from typing import Any

from billing.clients.stripe.errors import (
    StripeAccountUnknown,
    StripeNotExecuted,
    StripeRefused,
    StripeUnavailable,
)
from billing.clients.stripe.transport import StripeTransport, unshared_v1
from billing.clients.stripe.types import read_text

#: Stripe names the account also where it refuses to describe it: some restricted keys
#: can never get the permission (https://github.com/dj-stripe/dj-stripe/pull/1131).
_REFUSED_ON = re.compile(r"on account '(acct_\w+)'")


def current_account_id() -> str:
    """Return the id of the account that our key belongs to.

    Raises StripeAccountUnknown if Stripe refuses to say it, or StripeNotExecuted, since
    the call that waits for the answer is not made.
    """
    transport = StripeTransport(checks_account=False)
    try:
        return transport.call(_retrieve, lambda account: read_text(account, "id"))
    except StripeRefused as exc:
        if named := _REFUSED_ON.search(exc.message):
            return named[1]
        raise StripeAccountUnknown(
            f"{exc.message} Caravel reads the account of STRIPE_SECRET_KEY first: a "
            "restricted key needs the permission to read its account "
            "(rak_accounts_kyc_basic_read)."
        ) from exc
    except StripeUnavailable as exc:
        raise StripeNotExecuted(exc.message, retry_after=exc.retry_after) from exc


def _retrieve() -> Any:
    with unshared_v1() as v1:
        return v1.accounts.retrieve_current()
