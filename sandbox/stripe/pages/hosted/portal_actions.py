"""Actions of the forms in the billing portal."""

from collections.abc import Callable

from sandbox.common.html.form import Form
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.portal import actions, cards
from sandbox.stripe.store.records import Record

SessionAction = Callable[[Context, Record, Form], None]
#: Notice on the page after each action.
NOTICES = {
    "add-card": "The card was saved and is now the default.",
    "default-card": "The default card was changed.",
    "details": "Your details were saved.",
    "remove-card": "The card was removed.",
}


def _add_card(context: Context, session: Record, form: Form) -> None:
    cards.add(context, session, form.get("card", ""))


def _make_default(context: Context, session: Record, form: Form) -> None:
    cards.make_default(context, session, form.get("payment_method", ""))


def _remove_card(context: Context, session: Record, form: Form) -> None:
    cards.remove(context, session, form.get("payment_method", ""))


def _details(context: Context, session: Record, form: Form) -> None:
    actions.update_details(context, session, form)


def _with_session(
    name: str, action: SessionAction
) -> Callable[[Context, str, Form], str]:
    """Return the action of a form, which opens the session first.

    If the session has expired, it does nothing and the page shows the error.
    """

    def run(context: Context, token: str, form: Form) -> str:
        try:
            session = actions.use_session(context, token)
        except actions.SessionExpired:
            return ""
        action(context, session, form)
        return f"done={name}"

    return run


SESSION_ACTIONS: dict[str, SessionAction] = {
    "add-card": _add_card,
    "default-card": _make_default,
    "details": _details,
    "remove-card": _remove_card,
}
ACTIONS = {
    name: _with_session(name, action) for name, action in SESSION_ACTIONS.items()
}
