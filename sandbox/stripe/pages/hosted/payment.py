"""Payment of an invoice on its page: cards, 3D Secure challenge and receipt."""

from sandbox.common.html.elements import Child, Html, tag
from sandbox.common.html.form import Form
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.invoices import payment_records
from sandbox.stripe.objects.invoices.pay import COLLECTIBLE
from sandbox.stripe.objects.portal import hosted_actions
from sandbox.stripe.pages.hosted.layout import (
    CardChoice,
    card_choices,
    card_name,
    description_list,
    panel,
    post,
)
from sandbox.stripe.pages.text import day, money
from sandbox.stripe.store.records import Record

CARDS = (
    CardChoice("chargeDeclined", "is declined"),
    CardChoice("chargeDeclinedInsufficientFunds", "has insufficient funds"),
    CardChoice("authenticationRequired", "needs authentication"),
)
OUTCOMES = ("succeeded", "failed")


def pay(context: Context, token: str, form: Form) -> str:
    """Pay with the card in the form. After a decline the page shows the error."""
    result = hosted_actions.pay(
        context, _invoice(context, token)["id"], form.get("card", "")
    )
    return "done=pay" if result.invoice["status"] == "paid" else ""


def authenticate(context: Context, token: str, form: Form) -> str:
    """Complete the 3D Secure challenge with the outcome in the form."""
    if form.get("outcome") not in OUTCOMES:
        raise invalid("The outcome must be succeeded or failed.")
    passed = form["outcome"] == "succeeded"
    intent_id = payment_records.get_intent_id(context, _invoice(context, token))
    result = hosted_actions.authenticate(context, intent_id, passed=passed)
    return "done=pay" if result.invoice["status"] == "paid" else ""


ACTIONS = {"authenticate": authenticate, "pay": pay}


def get_payment_intent(context: Context, invoice: Record) -> Record | None:
    """Return the PaymentIntent of an invoice, or None."""
    payment = payment_records.find_default(context.store, invoice["id"])
    id = payment["payment"]["payment_intent"] if payment else ""
    return context.store.get("payment_intent", id)


def payment_panel(context: Context, invoice: Record, address: str) -> Html | None:
    """Return the payment buttons or the current challenge; None if not payable."""
    if invoice["status"] not in COLLECTIBLE:
        return None
    intent = get_payment_intent(context, invoice)
    if intent and intent["status"] == "requires_action":
        return _challenge(context, intent, address)
    amount = money(invoice["amount_remaining"], invoice["currency"])
    main = tag(
        "button",
        f"Pay {amount} ",
        tag("span", "with Visa •••• 4242"),
        name="card",
        value="pm_card_visa",
        class_="main",
    )
    return panel(
        tag("h2", "Pay with a test card"),
        _failure(intent),
        post(f"{address}/pay", main),
        tag(
            "p",
            "Or with a card that is declined or needs authentication:",
            class_="soft",
        ),
        card_choices(f"{address}/pay", CARDS, "Pay"),
        id="pay",
    )


def receipt_panel(context: Context, invoice: Record) -> Html | None:
    """Return the receipt of a paid invoice, else None."""
    if invoice["status"] != "paid":
        return None
    currency = invoice["currency"]
    return panel(
        tag("h2", "Receipt"),
        description_list(
            ("Amount paid", money(invoice["amount_paid"], currency)),
            ("Date", day(invoice["status_transitions"]["paid_at"])),
            ("Paid with", _payment_method(context, invoice)),
        ),
        id="receipt",
    )


def _invoice(context: Context, token: str) -> Record:
    invoice = page_urls.find_invoice(context.store, token)
    if invoice is None:
        raise missing("invoice", token)
    return invoice


def _failure(intent: Record | None) -> Html | None:
    """Return message and codes of the last payment error, if any."""
    error = intent and intent["last_payment_error"]
    if not error:
        return None
    codes = [error["code"], error["decline_code"]]
    return tag(
        "div",
        tag("p", error["message"]),
        tag("p", " · ".join(filter(None, codes)), class_="code"),
        class_="message bad",
        role="alert",
    )


def _challenge(context: Context, intent: Record, address: str) -> Html:
    card = context.get("payment_method", intent["payment_method"])["card"]
    return panel(
        tag("h2", "Authenticate the payment"),
        tag(
            "p",
            f"The issuer of {card_name(card)} requires 3D Secure for this payment. "
            "Choose the outcome here.",
        ),
        post(
            f"{address}/authenticate",
            tag(
                "button",
                "Complete authentication",
                name="outcome",
                value="succeeded",
                class_="main",
            ),
            tag("button", "Fail authentication", name="outcome", value="failed"),
            class_="choice",
        ),
        id="challenge",
    )


def _payment_method(context: Context, invoice: Record) -> Child:
    intent = get_payment_intent(context, invoice)
    if intent and intent["status"] == "succeeded":
        charge = context.get("charge", intent["latest_charge"])
        return card_name(charge["payment_method_details"]["card"])
    if invoice["_paid_off_stripe"]:
        return "Outside of Stripe"
    return "No payment was needed"
