"""Lines of an invoice, and the calculation of its amount due."""

from collections.abc import Iterator

from sandbox.common.html.elements import Child, Html, tag
from sandbox.stripe.api.context import Context
from sandbox.stripe.pages.text import day, money, plural
from sandbox.stripe.store.records import Record

MAX_LINES = 100
DUE = "Amount due"
Row = tuple[str, int]


def amounts(context: Context, invoice: Record) -> Html:
    """Return the lines, the total, and the amounts between total and remainder."""
    lines = invoice["_lines"]
    items = [_item(line) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        items.append(tag("li", f"and {plural(len(lines) - MAX_LINES, 'line')} more"))
    sums = [_sum(name, amount, invoice) for name, amount in _rows(context, invoice)]
    return tag("div", tag("ul", items, class_="items"), tag("dl", sums, class_="sums"))


def line_period(line: Record) -> Child:
    """Return the period of a line, or a day if it starts and ends at the same time."""
    start, end = line["period"]["start"], line["period"]["end"]
    return day(start) if start == end else (day(start), " – ", day(end))


def _item(line: Record) -> Html:
    return tag(
        "li",
        tag("span", line["description"] or line["id"]),
        tag("span", money(line["amount"], line["currency"]), class_="amount"),
        tag("span", line_period(line), class_="soft"),
    )


def _sum(name: str, amount: int, invoice: Record) -> Html:
    text = money(amount, invoice["currency"])
    class_ = "strong" if name == DUE else None
    return tag("div", tag("dt", name), tag("dd", text, class_="amount"), class_=class_)


def _rows(context: Context, invoice: Record) -> Iterator[Row]:
    yield "Total", invoice["total"]
    yield from _balance_rows(invoice)
    for note in _credit_notes(context, invoice):
        if note["pre_payment_amount"]:
            yield f"Credit note {note['number']}", -note["pre_payment_amount"]
    yield DUE, invoice["amount_due"]
    if invoice["amount_paid"]:
        yield "Amount paid", -invoice["amount_paid"]
    for note in _credit_notes(context, invoice):
        if note["post_payment_amount"]:
            yield f"Credited by {note['number']}", note["post_payment_amount"]


def _balance_rows(invoice: Record) -> Iterator[Row]:
    """Yield the effect of the customer balance, if any."""
    used: int = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    if invoice["total"] < 0:
        yield "Added to your balance", used
    elif used > 0:
        yield "Balance owed", used
    elif used < 0 and invoice["starting_balance"] < 0:
        yield "Paid from your balance", used
    elif used < 0:
        yield "Below the minimum charge, moved to the next invoice", used


def _credit_notes(context: Context, invoice: Record) -> list[Record]:
    """Return the issued credit notes, oldest first."""
    index = ("invoice", invoice["id"])
    notes = context.store.scan("credit_note", index=index, newest_first=False)
    return [note for note in notes if note["status"] == "issued"]
