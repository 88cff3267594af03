"""The billing portal, as a customer sees it.

Sources: docs pages "Customer portal", "Deep links in the customer portal": a flow
shows one thing to do and hides the way to all else; what follows is for the session to
say.
"""

from typing import Any
from urllib.parse import urlsplit

from sandbox.stripe.context import Context
from sandbox.stripe.objects import addresses, portal
from sandbox.stripe.pages import portal_sections
from sandbox.stripe.pages.cancelling import cancel_step, to_cancel
from sandbox.stripe.pages.forms import Form
from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.portal_deeds import DONE
from sandbox.stripe.pages.sheet import Shown, closed, message, part, sheet
from sandbox.stripe.store import Record

#: What ends each flow.
ENDS = {"payment_method_update": "add-card", "subscription_cancel": "cancel"}
LINKS = (("Terms", "terms_of_service_url"), ("Privacy", "privacy_policy_url"))


def show(context: Context, token: str, query: Form, error: str) -> Shown:
    """Return the portal of a session, or a page that says why it is closed."""
    session = addresses.find_session(context.store, token)
    if session is None:
        return closed(
            404,
            "There is no such session",
            "The address is incomplete, or the sandbox has been reset since.",
        )
    try:
        session = portal.use_session(context, token)
    except portal.SessionExpired:
        return closed(
            410,
            "This session has expired",
            "Its link is to be opened within five minutes, and ends an hour after it "
            "was last used. Go back to where you came from and open the portal again.",
            _back(session),
        )
    if context.get("customer", session["customer"]).get("deleted"):
        return closed(410, "This customer has been deleted", _back(session))
    done = query.get("done", "")
    return Shown(
        200,
        _flow(context, session, done, error) or _home(context, session, query, error),
    )


def show_login(context: Context, token: str, query: Form, error: str) -> Shown:
    """Return a page that says that nobody logs in here."""
    return closed(
        404,
        "There is no login here",
        "Stripe would ask for an e-mail address and send a link to the portal. The "
        "sandbox sends no mail: create a portal session and open its address.",
    )


def _home(context: Context, session: Record, query: Form, error: str) -> Html:
    address, said = _address(session), DONE.get(query.get("done", ""), "")
    leaving = to_cancel(context, session, query.get("cancel", ""))
    if leaving is not None:
        step = cancel_step(context, session, leaving, address, back=address)
        return _sheet(context, session, message(said, error), step)
    return _sheet(
        context,
        session,
        message(said, error),
        portal_sections.subscriptions(context, session, address),
        portal_sections.payment_methods(context, session, address),
        portal_sections.details(context, session, address),
        portal_sections.invoices(context, session),
        _links(context, session),
    )


def _flow(context: Context, session: Record, done: str, error: str) -> Html | None:
    """Return what a session with a flow shows, unless that is the whole portal."""
    flow, address = session["flow"], _address(session)
    if flow is None:
        return None
    if done == ENDS[flow["type"]]:
        return _completed(session, flow["after_completion"], DONE[done])
    if flow["type"] == "payment_method_update":
        step = part(
            tag("h2", "Add a payment method"), portal_sections.new_card(address)
        )
        return _sheet(context, session, message("", error), step)
    leaving = to_cancel(context, session, flow["subscription_cancel"]["subscription"])
    if leaving is None:
        return None
    step = cancel_step(context, session, leaving, address)
    return _sheet(context, session, message("", error), step)


def _completed(session: Record, after: dict[str, Any], said: str) -> Html | None:
    """Return the end of a flow; None where that is the whole portal."""
    if after["type"] == "portal_homepage":
        return None
    if after["type"] == "hosted_confirmation":
        told = after["hosted_confirmation"]["custom_message"]
        body = part(tag("h1", said), tag("p", told) if told else None, class_="closed")
        return sheet("Done", body, back=_back(session))
    url = web_address(after["redirect"]["return_url"]) or ""
    on = (tag("a", f"Go on to {urlsplit(url).netloc}", href=url), ".") if url else None
    body = part(tag("h1", said), tag("p", on), class_="closed")
    return sheet("Done", body, refresh=url)


def web_address(text: str | None) -> str | None:
    """Return the text if it is an address that a browser may be sent to."""
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None


def _sheet(context: Context, session: Record, note: Html | None, *body: Child) -> Html:
    """Return a page of the portal; what was just done stands first."""
    customer = context.get("customer", session["customer"])
    profile = _profile(context, session)
    who = customer["name"] or customer["email"] or customer["id"]
    email = customer["email"] if customer["name"] else None
    head = part(
        tag("h1", "Your billing"),
        tag("p", tag("span", who), " ", tag("span", email, class_="soft")),
        tag("p", profile["headline"], class_="soft") if profile["headline"] else None,
        class_="summary",
    )
    return sheet("Your billing", note, head, body, back=_back(session))


def _back(session: Record) -> Child:
    """Return the link to where the customer came from, if that is known."""
    url = web_address(session["return_url"])
    return tag("a", f"← Return to {urlsplit(url).netloc}", href=url) if url else None


def _links(context: Context, session: Record) -> Html | None:
    """Return the links that the configuration asks for."""
    profile = _profile(context, session)
    links = [
        tag("a", label, href=url)
        for label, name in LINKS
        if (url := web_address(profile[name]))
    ]
    return tag("p", links, class_="links") if links else None


def _profile(context: Context, session: Record) -> dict[str, Any]:
    configuration = context.get(addresses.CONFIGURATION, session["configuration"])
    profile: dict[str, Any] = configuration["business_profile"]
    return profile


def _address(session: Record) -> str:
    return f"{addresses.SESSION_PATH}{session['_token']}"
