"""Customer balances and their transactions (docs: Customer credit balance)."""

from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.objects.fields import (
    CURRENCY,
    copy_given,
    merge_metadata,
    new_metadata,
)
from sandbox.stripe.protocol.errors import invalid
from sandbox.stripe.protocol.lists import page
from sandbox.stripe.protocol.params import Integer, Metadata, Shape, Text, listing
from sandbox.stripe.resource import Params, Resource
from sandbox.stripe.store import Record

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
UPDATE = Shape({"description": Text(unset=True), "metadata": Metadata()})


@resource.post(PATH, CREATE)
def create(context: Context, params: Params, customer: str) -> Record:
    """Adjust the balance; a negative amount is credit. Raises a 400."""
    account = context.refer("customer", customer, "customer")
    if account["currency"] not in (None, params["currency"]):
        raise invalid(
            "You cannot combine currencies on a single customer. This customer has "
            f"had a subscription, coupon, or invoice item with currency "
            f"{account['currency']}.",
            param="currency",
        )
    return change(
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
    return page(
        context.store,
        KIND,
        PATH.format(customer=customer),
        params,
        index=("customer", customer),
    )


@resource.get(f"{PATH}/{{id}}", Shape())
def retrieve(context: Context, params: Params, customer: str, id: str) -> Record:
    """Return one transaction. Raises a 404."""
    return context.get(KIND, id)


@resource.post(f"{PATH}/{{id}}", UPDATE)
def update(context: Context, params: Params, customer: str, id: str) -> Record:
    """Change the description or metadata. Raises a 404."""
    with context.edit(KIND, id) as draft:
        copy_given(draft, params, "description")
        if "metadata" in params:
            draft["metadata"] = merge_metadata(draft["metadata"], params["metadata"])
    return context.get(KIND, id)


def change(
    context: Context,
    customer: str,
    amount: int,
    currency: str,
    *,
    type: str = "adjustment",
    invoice: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Record:
    """Add `amount` to the balance; return the transaction that says why."""
    with context.edit("customer", customer, "customer.updated") as account:
        account["balance"] += amount
        account["currency"] = account["currency"] or currency
    ending_balance: Any = context.get("customer", customer)["balance"]
    return context.insert(
        {
            "id": context.ids.new("cbtxn"),
            "object": KIND,
            "amount": amount,
            "checkout_session": None,
            "created": context.now,
            "credit_note": None,
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": description,
            "ending_balance": ending_balance,
            "invoice": invoice,
            "livemode": False,
            "metadata": metadata or {},
            "type": type,
        }
    )
