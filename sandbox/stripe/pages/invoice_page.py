"""The page of an invoice, as its customer sees it (docs page "Hosted Invoice Page").

Assumed: it does not expire. Stripe's does, 30 days after the due date, but whoever asks
the API for the invoice gets an address that is good for ten days more.
"""

from sandbox.stripe.context import Context
from sandbox.stripe.objects import addresses
from sandbox.stripe.objects.invoice_payment import COLLECTIBLE
from sandbox.stripe.pages import paying
from sandbox.stripe.pages.forms import Form
from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.invoice_amounts import amounts
from sandbox.stripe.pages.sheet import NAME, Shown, closed, message, part, sheet, terms
from sandbox.stripe.pages.text import badge, day, money
from sandbox.stripe.store import Record

PAID = "Your payment went through. Thank you."


def show(context: Context, token: str, query: Form, error: str) -> Shown:
    """Return the page of an invoice, or one that says there is none."""
    invoice = addresses.find_invoice(context.store, token)
    if invoice is None:
        return closed(
            404,
            "There is no such invoice",
            "The address is incomplete, or the sandbox has been reset since.",
        )
    address = f"{addresses.INVOICE_PATH}{token}"
    paid = invoice["status"] == "paid"
    said = PAID if paid and query.get("done") == "pay" else ""
    page = sheet(
        _title(context, invoice),
        message(said, error),
        _summary(context, invoice),
        paying.to_pay(context, invoice, address),
        paying.receipt(context, invoice),
        part(tag("h2", "Details"), amounts(context, invoice), _memo(invoice)),
    )
    return Shown(200, page)


def _title(context: Context, invoice: Record) -> str:
    """Return the title; what just went wrong comes first, for it is read first."""
    intent = paying.intent_of(context, invoice)
    name = f"Invoice {invoice['number']}"
    if intent and invoice["status"] in COLLECTIBLE and intent["last_payment_error"]:
        return f"Not paid: {name}"
    return name


def _summary(context: Context, invoice: Record) -> Html:
    asked = invoice["status"] in COLLECTIBLE
    amount = invoice["amount_remaining"] if asked else invoice["amount_due"]
    who = invoice["customer_name"] or invoice["customer_email"] or invoice["customer"]
    email = invoice["customer_email"] if invoice["customer_name"] else None
    return part(
        tag("div", tag("h1", f"Invoice {invoice['number']}"), badge(invoice["status"])),
        tag("p", money(amount, invoice["currency"]), class_="sum"),
        tag("p", _state(context, invoice), class_="state"),
        terms(
            ("To", (tag("span", who), tag("span", email, class_="soft"))),
            ("From", invoice["account_name"] or NAME),
            ("Issued", day(invoice["effective_at"] or invoice["created"])),
            ("Due", day(invoice["due_date"]) if invoice["due_date"] else None),
        ),
        class_="summary",
    )


def _state(context: Context, invoice: Record) -> Child:
    """Return where the invoice stands, in a sentence."""
    changes, due = invoice["status_transitions"], invoice["due_date"]
    if invoice["status"] == "paid":
        return ("Paid on ", day(changes["paid_at"]), ".")
    if invoice["status"] == "void":
        return ("Voided on ", day(changes["voided_at"]), ": nothing is to be paid.")
    if invoice["status"] == "uncollectible":
        since = day(changes["marked_uncollectible_at"])
        return ("Given up as uncollectible on ", since, ". It can still be paid.")
    if due is None:
        return _automatic(context, invoice)
    word = "It was due on " if due < context.now else "Please pay by "
    return (word, day(due), ".")


def _automatic(context: Context, invoice: Record) -> Child:
    again = context.show(invoice)["next_payment_attempt"]
    if again is None:
        return "It was to be charged automatically; please pay it here."
    return ("The card on file is charged again on ", day(again), ", or pay it here.")


def _memo(invoice: Record) -> list[Html]:
    """Return what the seller has to say on the invoice."""
    words = (invoice["description"], invoice["footer"])
    return [tag("p", one, class_="soft") for one in words if one]
