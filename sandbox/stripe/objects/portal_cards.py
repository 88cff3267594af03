"""The cards a person keeps in the billing portal.

Sources: docs page "Deep links in the customer portal" (a card that is added becomes
the customer's default); Stripe support, "Billing customer portal" (a subscription that
is charged keeps a card: another one is to be added first).
"""

from sandbox.stripe.context import Context
from sandbox.stripe.objects import hosted, payment_methods, portal
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.store import Record

FEATURE = "payment_method_update"


def on_file(context: Context, session: Record) -> list[Record]:
    """Return the customer's cards, newest first."""
    index = ("customer", session["customer"])
    return list(context.store.scan(payment_methods.KIND, index=index))


def default_of(context: Context, session: Record) -> str | None:
    """Return the id of the card that is charged where nothing else is said."""
    customer = context.get("customer", session["customer"])
    id: str | None = customer["invoice_settings"]["default_payment_method"]
    return id


def needed(context: Context, session: Record, id: str) -> bool:
    """Return whether a subscription would be left without any card to charge."""
    default = default_of(context, session)
    owned = context.store.scan("subscription", index=("customer", session["customer"]))
    return any(
        {default, subscription["default_payment_method"]} - {None} == {id}
        for subscription in owned
        if subscription["status"] not in ENDED
        and subscription["collection_method"] == "charge_automatically"
    )


def add(context: Context, session: Record, card: str) -> Record:
    """Save a test card and make it the default. Raises NotAllowed, or a 402."""
    _check(context, session)
    return hosted.add_card(context, session["customer"], card)


def make_default(context: Context, session: Record, id: str) -> None:
    """Let a card be charged where nothing else is said. Raises NotAllowed.

    A subscription that names a card of its own keeps to it.
    """
    _check(context, session, id)
    with context.update("customer", session["customer"], "customer.updated") as draft:
        draft["invoice_settings"]["default_payment_method"] = id


def remove(context: Context, session: Record, id: str) -> None:
    """Detach a card. Raises NotAllowed, also when a subscription has no other."""
    _check(context, session, id)
    if needed(context, session, id):
        raise portal.NotAllowed(
            "A subscription is charged to this card: add another one first."
        )
    payment_methods.detach(context, id)


def _check(context: Context, session: Record, id: str | None = None) -> None:
    if not portal.may(context, session, FEATURE):
        raise portal.NotAllowed("The portal does not change payment methods.")
    owner = session["customer"]
    if id is not None and not payment_methods.belongs(context, id, owner):
        raise portal.NotAllowed("This is no card of the customer.")
