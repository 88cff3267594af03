"""Billing portal for customers.

Sources: docs pages "Customer portal", "Deep links in the customer portal": a flow shows
a single action without other navigation; the session defines what follows it. The
sandbox does not model changes of subscriptions in the portal.
"""

from typing import Any
from urllib.parse import urlsplit

from sandbox.common.html.elements import Child, Html, tag
from sandbox.common.html.form import Form
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import actions
from sandbox.stripe.pages.hosted import portal_sections
from sandbox.stripe.pages.hosted.layout import (
    PageResult,
    layout,
    message,
    panel,
    unavailable_page,
)
from sandbox.stripe.pages.hosted.portal_actions import NOTICES
from sandbox.stripe.store.records import Record

FLOW, COMPLETED_BY = "payment_method_update", "add-card"
LINKS = (("Terms", "terms_of_service_url"), ("Privacy", "privacy_policy_url"))


def render(context: Context, token: str, query: Form, error: str) -> PageResult:
    """Return the portal of a session, or a page with the reason it is unavailable."""
    session = page_urls.find_session(context.store, token)
    if session is None:
        return unavailable_page(
            404,
            "Session not found",
            "The address is incomplete, or the sandbox has been reset.",
        )
    try:
        session = actions.use_session(context, token)
    except actions.SessionExpired:
        return unavailable_page(
            410,
            "This session has expired",
            "A session link must be opened within five minutes and expires one hour "
            "after its last use. Go back and open the portal again.",
            _back(session),
        )
    if context.get("customer", session["customer"]).get("deleted"):
        return unavailable_page(410, "This customer has been deleted", _back(session))
    action = query.get("done", "")
    return PageResult(
        200,
        _flow(context, session, action, error) or _home(context, session, query, error),
    )


def render_login(context: Context, token: str, query: Form, error: str) -> PageResult:
    """Return a page that explains the missing login."""
    return unavailable_page(
        404,
        "Login is not available",
        "Stripe would ask for an e-mail address and send a link to the portal. The "
        "sandbox sends no mail: create a portal session and open its URL.",
    )


def _home(context: Context, session: Record, query: Form, error: str) -> Html:
    address, notice = _address(session), NOTICES.get(query.get("done", ""), "")
    return _layout(
        context,
        session,
        message(notice, error),
        portal_sections.subscriptions(context, session),
        portal_sections.payment_methods(context, session, address),
        portal_sections.details(context, session, address),
        portal_sections.invoices(context, session),
        _links(context, session),
    )


def _flow(context: Context, session: Record, action: str, error: str) -> Html | None:
    """Return the page of a flow, or None to show the whole portal."""
    flow, address = session["flow"], _address(session)
    if flow is None or flow["type"] != FLOW:
        return None
    if action == COMPLETED_BY:
        return _completed(session, flow["after_completion"], NOTICES[action])
    step = panel(tag("h2", "Add a payment method"), portal_sections.new_card(address))
    return _layout(context, session, message("", error), step)


def _completed(session: Record, after: dict[str, Any], notice: str) -> Html | None:
    """Return the page after a flow, or None to show the whole portal."""
    if after["type"] == "portal_homepage":
        return None
    if after["type"] == "hosted_confirmation":
        text = after["hosted_confirmation"]["custom_message"]
        body = panel(
            tag("h1", notice), tag("p", text) if text else None, class_="notice-page"
        )
        return layout("Done", body, back=_back(session))
    url = web_address(after["redirect"]["return_url"]) or ""
    link = (
        (tag("a", f"Continue to {urlsplit(url).netloc}", href=url), ".")
        if url
        else None
    )
    body = panel(tag("h1", notice), tag("p", link), class_="notice-page")
    return layout("Done", body, refresh=url)


def web_address(text: str | None) -> str | None:
    """Return the text if it is an http or https URL, else None."""
    # A link with a `javascript:` URL would run a script in the page.
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None


def _layout(context: Context, session: Record, note: Html | None, *body: Child) -> Html:
    """Return a page of the portal with a message at the top."""
    customer = context.get("customer", session["customer"])
    profile = _profile(context, session)
    name = customer["name"] or customer["email"] or customer["id"]
    email = customer["email"] if customer["name"] else None
    head = panel(
        tag("h1", "Your billing"),
        tag("p", tag("span", name), " ", tag("span", email, class_="soft")),
        tag("p", profile["headline"], class_="soft") if profile["headline"] else None,
        class_="summary",
    )
    return layout("Your billing", note, head, body, back=_back(session))


def _back(session: Record) -> Child:
    """Return the link to the session's return URL, if it has one."""
    url = web_address(session["return_url"])
    return tag("a", f"← Return to {urlsplit(url).netloc}", href=url) if url else None


def _links(context: Context, session: Record) -> Html | None:
    """Return the links of the portal configuration."""
    profile = _profile(context, session)
    links = [
        tag("a", label, href=url)
        for label, name in LINKS
        if (url := web_address(profile[name]))
    ]
    return tag("p", links, class_="links") if links else None


def _profile(context: Context, session: Record) -> dict[str, Any]:
    configuration = context.get(page_urls.CONFIGURATION, session["configuration"])
    profile: dict[str, Any] = configuration["business_profile"]
    return profile


def _address(session: Record) -> str:
    return f"{page_urls.SESSION_PATH}{session['_token']}"
