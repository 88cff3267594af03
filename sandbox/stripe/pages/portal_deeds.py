"""What the forms of the billing portal do."""

from collections.abc import Callable

from sandbox.stripe.context import Context
from sandbox.stripe.objects import portal, portal_cards
from sandbox.stripe.pages.forms import Form
from sandbox.stripe.store import Record

Act = Callable[[Context, Record, Form], None]
#: What a deed is called on the way back to the page, and what the page then says.
DONE = {
    "add-card": "The card is saved. It is now the default.",
    "cancel": "The cancellation is confirmed.",
    "default-card": "The default card is changed.",
    "details": "Your details are saved.",
    "remove-card": "The card is removed.",
    "renew": "The subscription goes on: its cancellation is taken back.",
}


def _add_card(context: Context, session: Record, form: Form) -> None:
    portal_cards.add(context, session, form.get("card", ""))


def _make_default(context: Context, session: Record, form: Form) -> None:
    portal_cards.make_default(context, session, form.get("payment_method", ""))


def _remove_card(context: Context, session: Record, form: Form) -> None:
    portal_cards.remove(context, session, form.get("payment_method", ""))


def _cancel(context: Context, session: Record, form: Form) -> None:
    portal.cancel(
        context,
        session,
        form.get("subscription", ""),
        feedback=form.get("feedback") or None,
        comment=form.get("comment", "").strip() or None,
    )


def _renew(context: Context, session: Record, form: Form) -> None:
    portal.undo_cancellation(context, session, form.get("subscription", ""))


def _details(context: Context, session: Record, form: Form) -> None:
    portal.update_details(context, session, form)


def _deed(name: str, act: Act) -> Callable[[Context, str, Form], str]:
    """Return the deed of a session that is there; else the page says that it is not."""

    def do(context: Context, token: str, form: Form) -> str:
        try:
            session = portal.use_session(context, token)
        except portal.SessionExpired:
            return ""
        act(context, session, form)
        return f"done={name}"

    return do


ACTS: dict[str, Act] = {
    "add-card": _add_card,
    "cancel": _cancel,
    "default-card": _make_default,
    "details": _details,
    "remove-card": _remove_card,
    "renew": _renew,
}
DEEDS = {name: _deed(name, act) for name, act in ACTS.items()}
