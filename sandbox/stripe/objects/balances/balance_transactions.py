"""Customer balances and their transactions (docs: Customer credit balance).

Stripe has no event for a transaction; `customer.updated` carries the new balance.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Integer, Metadata, Shape, Text, listing
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import CURRENCY, check_amount, new_metadata
from sandbox.stripe.store.records import Record

KIND = "customer_balance_transaction"
PATH = "/v1/customers/{customer}/balance_transactions"
resource = Resource(KIND, indexes=("customer",))

CREATE = Shape(
    {
        "amount": Integer(),
        "currency": CURRENCY,
        "description": Text(unset=True),
        "metadata": Metadata(),
    },
    required=("amount", "currency"),
)


@resource.post(PATH, CREATE)
def create(context: Context, params: Params, customer: str) -> Record:
    """Adjust the balance. A negative amount is credit. Raises a 400 or a 404."""
    owner = context.get_live("customer", customer)
    require_currency(owner, params["currency"], param="currency")
    check_amount(params["amount"], params["currency"], "amount")
    return adjust(
        context,
        customer,
        params["amount"],
        params["currency"],
        description=params.get("description"),
        metadata=new_metadata(params),
    )


@resource.get(PATH, listing())
def list_(context: Context, params: Params, customer: str) -> Record:
    """Return the customer's transactions, newest first."""
    context.get("customer", customer)
    url, filters = PATH.format(customer=customer), {"customer": customer}
    return page(context.store, KIND, url, params, filters=filters)


def require_currency(customer: Record, currency: str, param: str | None = None) -> None:
    """Raise a 400 if the customer is billed in another currency."""
    if customer["currency"] not in (None, currency):
        raise invalid(
            "You cannot combine currencies on a single customer. This customer has "
            "had a subscription, coupon, or invoice item with currency "
            f"{customer['currency']}.",
            param=param,
        )


def set_currency(
    context: Context, customer: Record, currency: str, param: str | None = None
) -> None:
    """Set the customer's currency if unset. Raises a 400 if it is a different one."""
    require_currency(customer, currency, param)
    if customer["currency"] is None:
        id, event = customer["id"], "customer.updated"
        context.change("customer", id, event, currency=currency)


def adjust(
    context: Context,
    customer: str,
    amount: int,
    currency: str,
    *,
    type: str = "adjustment",
    invoice: str | None = None,
    credit_note: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Record:
    """Add `amount` to the balance and return the new transaction."""
    with context.update("customer", customer, "customer.updated") as account:
        account["balance"] += amount
        account["currency"] = account["currency"] or currency
    return context.insert(
        {
            **context.new(KIND, "cbtxn"),
            "amount": amount,
            "checkout_session": None,
            "credit_note": credit_note,
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": description,
            "ending_balance": account["balance"],
            "invoice": invoice,
            "metadata": metadata or {},
            "type": type,
        }
    )
