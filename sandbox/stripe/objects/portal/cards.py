"""Management of a customer's cards in the billing portal.

Sources: docs page "Deep links in the customer portal" (an added card becomes the
customer's default); Stripe support, "Billing customer portal" (the only card of an
automatically charged subscription cannot be removed).
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.portal import actions, hosted_actions
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.store.records import Record

FEATURE = "payment_method_update"


def list_cards(context: Context, session: Record) -> list[Record]:
    """Return the customer's cards, newest first."""
    index = ("customer", session["customer"])
    methods = context.store.scan(payment_methods.KIND, index=index)
    return [method for method in methods if method["type"] == "card"]


def default_id(context: Context, session: Record) -> str | None:
    """Return the id of the customer's default card, or None."""
    customer = context.get("customer", session["customer"])
    id: str | None = customer["invoice_settings"]["default_payment_method"]
    return id


def is_only_card(context: Context, session: Record, id: str) -> bool:
    """Return whether a subscription has no other card to charge."""
    default = default_id(context, session)
    index = ("customer", session["customer"])
    return any(
        {default, subscription["default_payment_method"]} - {None} == {id}
        for subscription in context.store.scan("subscription", index=index)
        if subscription["status"] not in ENDED
        and subscription["collection_method"] == "charge_automatically"
    )


def add(context: Context, session: Record, card: str) -> Record:
    """Attach a test card and make it the default. Raises NotAllowed, or a 402."""
    _check(context, session)
    return hosted_actions.add_card(context, session["customer"], card)


def make_default(context: Context, session: Record, id: str) -> None:
    """Make a card the customer's default. Raises NotAllowed.

    Subscriptions with their own default card keep it.
    """
    _check(context, session, id)
    payment_methods.set_default(context, session["customer"], id)


def remove(context: Context, session: Record, id: str) -> None:
    """Detach a card. Raises NotAllowed, also if it is a subscription's only one."""
    _check(context, session, id)
    if is_only_card(context, session, id):
        raise actions.NotAllowed(
            "A subscription is charged to this card: add another one first."
        )
    payment_methods.detach(context, id)


def _check(context: Context, session: Record, id: str | None = None) -> None:
    if not actions.is_enabled(context, session, FEATURE):
        raise actions.NotAllowed("The portal does not change payment methods.")
    owner = session["customer"]
    if id is not None and not payment_methods.is_attached(context, id, owner):
        raise actions.NotAllowed("The customer has no such card.")
