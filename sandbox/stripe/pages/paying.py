"""Paying an invoice on its page: with which card, the challenge, the receipt."""

from sandbox.stripe.context import Context
from sandbox.stripe.objects import addresses, hosted, invoice_payments
from sandbox.stripe.objects.invoice_payment import COLLECTIBLE
from sandbox.stripe.pages.forms import Form
from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.sheet import Offer, card_name, offers, part, post, terms
from sandbox.stripe.pages.text import day, money
from sandbox.stripe.protocol.errors import invalid, missing
from sandbox.stripe.store import Record

OFFERS = (
    Offer("chargeDeclined", "is declined"),
    Offer("chargeDeclinedInsufficientFunds", "has insufficient funds"),
    Offer("authenticationRequired", "needs authentication"),
)
ENDS = ("succeeded", "failed")


def pay(context: Context, token: str, form: Form) -> str:
    """Pay with the card of the form; a decline is shown by the page itself."""
    receipt = hosted.pay(context, _invoice(context, token)["id"], form.get("card", ""))
    return "done=pay" if receipt.invoice["status"] == "paid" else ""


def authenticate(context: Context, token: str, form: Form) -> str:
    """End the 3D Secure challenge as the form says."""
    if form.get("outcome") not in ENDS:
        raise invalid("A challenge has succeeded or failed.")
    passed = form["outcome"] == "succeeded"
    intent = invoice_payments.get_intent_id(context, _invoice(context, token))
    receipt = hosted.authenticate(context, intent, passed=passed)
    return "done=pay" if receipt.invoice["status"] == "paid" else ""


DEEDS = {"authenticate": authenticate, "pay": pay}


def intent_of(context: Context, invoice: Record) -> Record | None:
    """Return the payment intent of an invoice, if it ever asked for money."""
    payment = invoice_payments.find_default(context.store, invoice["id"])
    id = payment["payment"]["payment_intent"] if payment else ""
    return context.store.get("payment_intent", id)


def to_pay(context: Context, invoice: Record, address: str) -> Html | None:
    """Return how to pay what can be paid, or the challenge that is going on."""
    if invoice["status"] not in COLLECTIBLE:
        return None
    intent = intent_of(context, invoice)
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
    return part(
        tag("h2", "Pay with a test card"),
        _failure(intent),
        post(f"{address}/pay", main),
        tag("p", "Or with one whose issuer does not simply say yes:", class_="soft"),
        offers(f"{address}/pay", OFFERS, "Pay"),
        id="pay",
    )


def receipt(context: Context, invoice: Record) -> Html | None:
    """Return what is known of how an invoice was paid."""
    if invoice["status"] != "paid":
        return None
    currency = invoice["currency"]
    return part(
        tag("h2", "Receipt"),
        terms(
            ("Amount paid", money(invoice["amount_paid"], currency)),
            ("Date", day(invoice["status_transitions"]["paid_at"])),
            ("Paid with", _means(context, invoice)),
        ),
        id="receipt",
    )


def _invoice(context: Context, token: str) -> Record:
    invoice = addresses.find_invoice(context.store, token)
    if invoice is None:
        raise missing("invoice", token)
    return invoice


def _failure(intent: Record | None) -> Html | None:
    """Return why the last attempt came to nothing, for people and for programs."""
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
    return part(
        tag("h2", "Is it you?"),
        tag(
            "p",
            f"The issuer of {card_name(card)} asks its holder to authenticate this "
            "payment with 3D Secure. Here you decide how that ends.",
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


def _means(context: Context, invoice: Record) -> Child:
    intent = intent_of(context, invoice)
    if intent and intent["status"] == "succeeded":
        charge = context.get("charge", intent["latest_charge"])
        return card_name(charge["payment_method_details"]["card"])
    if invoice["_paid_off_stripe"]:
        return "Outside of Stripe"
    return "Nothing was left to pay"
