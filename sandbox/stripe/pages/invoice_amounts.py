"""What an invoice bills, and how that comes to what is asked for."""

from collections.abc import Iterator

from sandbox.stripe.context import Context
from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.text import day, money, plural
from sandbox.stripe.store import Record

MOST_LINES = 100
DUE = "Amount due"
Row = tuple[str, int]


def amounts(context: Context, invoice: Record) -> Html:
    """Return the lines, then what changes their sum, down to what remains."""
    lines = invoice["_lines"]
    items = [_item(line) for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        items.append(tag("li", f"and {plural(len(lines) - MOST_LINES, 'line')} more"))
    sums = [_sum(name, amount, invoice) for name, amount in _rows(context, invoice)]
    return tag("div", tag("ul", items, class_="items"), tag("dl", sums, class_="sums"))


def billed_for(line: Record) -> Child:
    """Return the time that a line is for; a day when it is for a moment."""
    start, end = line["period"]["start"], line["period"]["end"]
    return day(start) if start == end else (day(start), " – ", day(end))


def _item(line: Record) -> Html:
    return tag(
        "li",
        tag("span", line["description"] or line["id"]),
        tag("span", money(line["amount"], line["currency"]), class_="amount"),
        tag("span", billed_for(line), class_="soft"),
    )


def _sum(name: str, amount: int, invoice: Record) -> Html:
    shown = money(amount, invoice["currency"])
    class_ = "strong" if name == DUE else None
    return tag("div", tag("dt", name), tag("dd", shown, class_="amount"), class_=class_)


def _rows(context: Context, invoice: Record) -> Iterator[Row]:
    yield "Total", invoice["total"]
    yield from _from_balance(invoice)
    for note in _notes(context, invoice):
        if note["pre_payment_amount"]:
            yield f"Credit note {note['number']}", -note["pre_payment_amount"]
    yield DUE, invoice["amount_due"]
    if invoice["amount_paid"]:
        yield "Amount paid", -invoice["amount_paid"]
    for note in _notes(context, invoice):
        if note["post_payment_amount"]:
            yield f"Given back by {note['number']}", note["post_payment_amount"]


def _from_balance(invoice: Record) -> Iterator[Row]:
    """Yield what the customer's balance changes, under the name that fits."""
    used: int = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    if invoice["total"] < 0:
        yield "To your balance", used
    elif used > 0:
        yield "Owed from before", used
    elif used < 0 and invoice["starting_balance"] < 0:
        yield "Paid from your balance", used
    elif used < 0:
        yield "Too small to charge: owed with the next invoice", used


def _notes(context: Context, invoice: Record) -> list[Record]:
    """Return the credit notes that are in force, the first one first."""
    index = ("invoice", invoice["id"])
    notes = context.store.scan("credit_note", index=index, newest_first=False)
    return [note for note in notes if note["status"] == "issued"]
