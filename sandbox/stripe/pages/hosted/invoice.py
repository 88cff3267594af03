"""Invoice page for customers (docs page "Hosted Invoice Page").

Assumed: the URL does not expire. Stripe's URL expires 30 days after the due date, but
retrieving the invoice over the API returns one that is valid for ten more days.
"""

from sandbox.common.html.elements import Child, Html, tag
from sandbox.common.html.form import Form
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.invoices.pay import COLLECTIBLE
from sandbox.stripe.pages.hosted import payment
from sandbox.stripe.pages.hosted.invoice_amounts import amounts
from sandbox.stripe.pages.hosted.layout import (
    NAME,
    PageResult,
    description_list,
    layout,
    message,
    panel,
    unavailable_page,
)
from sandbox.stripe.pages.text import badge, day, money
from sandbox.stripe.store.records import Record

PAID = "Your payment went through. Thank you."


def render(context: Context, token: str, query: Form, error: str) -> PageResult:
    """Return the invoice page, or a 404 page for an unknown token."""
    invoice = page_urls.find_invoice(context.store, token)
    if invoice is None:
        return unavailable_page(
            404,
            "Invoice not found",
            "The address is incomplete, or the sandbox has been reset.",
        )
    address = f"{page_urls.INVOICE_PATH}{token}"
    paid = invoice["status"] == "paid"
    notice = PAID if paid and query.get("done") == "pay" else ""
    page = layout(
        _title(context, invoice),
        message(notice, error),
        _summary(context, invoice),
        payment.payment_panel(context, invoice, address),
        payment.receipt_panel(context, invoice),
        panel(tag("h2", "Details"), amounts(context, invoice), _memo(invoice)),
    )
    return PageResult(200, page)


def _title(context: Context, invoice: Record) -> str:
    """Return the title; it starts with "Not paid" after a failed payment."""
    intent = payment.get_payment_intent(context, invoice)
    name = f"Invoice {invoice['number']}"
    if intent and invoice["status"] in COLLECTIBLE and intent["last_payment_error"]:
        return f"Not paid: {name}"
    return name


def _summary(context: Context, invoice: Record) -> Html:
    payable = invoice["status"] in COLLECTIBLE
    amount = invoice["amount_remaining"] if payable else invoice["amount_due"]
    name = invoice["customer_name"] or invoice["customer_email"] or invoice["customer"]
    email = invoice["customer_email"] if invoice["customer_name"] else None
    return panel(
        tag("div", tag("h1", f"Invoice {invoice['number']}"), badge(invoice["status"])),
        tag("p", money(amount, invoice["currency"]), class_="sum"),
        tag("p", _status(context, invoice), class_="state"),
        description_list(
            ("To", (tag("span", name), tag("span", email, class_="soft"))),
            ("From", invoice["account_name"] or NAME),
            ("Issued", day(invoice["effective_at"] or invoice["created"])),
            ("Due", day(invoice["due_date"]) if invoice["due_date"] else None),
        ),
        class_="summary",
    )


def _status(context: Context, invoice: Record) -> Child:
    """Return a sentence on the status of the invoice."""
    changes, due = invoice["status_transitions"], invoice["due_date"]
    if invoice["status"] == "paid":
        return ("Paid on ", day(changes["paid_at"]), ".")
    if invoice["status"] == "void":
        return ("Voided on ", day(changes["voided_at"]), ". No payment is needed.")
    if invoice["status"] == "uncollectible":
        since = day(changes["marked_uncollectible_at"])
        return ("Marked uncollectible on ", since, ". It can still be paid.")
    if due is None:
        return _automatic(context, invoice)
    text = "It was due on " if due < context.now else "Please pay by "
    return (text, day(due), ".")


def _automatic(context: Context, invoice: Record) -> Child:
    attempt_at = context.serialize(invoice)["next_payment_attempt"]
    if attempt_at is None:
        return "There will be no automatic charge. Please pay here."
    return ("The card on file is charged again on ", day(attempt_at), ". Or pay here.")


def _memo(invoice: Record) -> list[Html]:
    """Return the invoice's description and footer."""
    texts = (invoice["description"], invoice["footer"])
    return [tag("p", text, class_="soft") for text in texts if text]
