"""An audit of the money in a store: what must hold whatever has happened.

Source: SDK docstrings of Invoice (`amount_due`, `amount_remaining`,
`starting_balance`, `ending_balance`), CreditNote and CustomerBalanceTransaction.
"""

from collections.abc import Iterator

from sandbox.stripe.store import Record, Store

TRANSACTION = "customer_balance_transaction"
PRE, POST = "pre_payment_credit_notes_amount", "post_payment_credit_notes_amount"


def audit(store: Store) -> list[str]:
    """Return what does not add up, in words; empty when the books are right."""
    return [
        *(
            f"{invoice['id']} ({invoice['status']}): {problem}"
            for invoice in store.scan("invoice")
            for problem in _invoice(store, invoice)
        ),
        *(
            f"{customer['id']}: {problem}"
            for customer in store.scan("customer")
            if not customer.get("deleted")
            for problem in _customer(store, customer)
        ),
    ]


def _invoice(store: Store, invoice: Record) -> Iterator[str]:
    if sum(line["amount"] for line in invoice["_lines"]) != invoice["total"]:
        yield "the lines are not the total"
    if invoice["status"] == "draft":
        return
    asked = invoice["total"] + invoice["starting_balance"] - invoice["ending_balance"]
    if invoice["amount_due"] != asked - invoice[PRE]:
        yield "amount_due is not total, balances and credit notes"
    owed = invoice["amount_due"] - invoice["amount_paid"]
    if invoice["amount_remaining"] != owed:
        yield "amount_remaining is not amount_due less amount_paid"
    if owed < 0 or invoice["amount_due"] < 0 or invoice["amount_paid"] < 0:
        yield "an amount is negative"
    if invoice["status"] == "paid" and owed:
        yield "paid, and something remains"
    if invoice["status"] == "open" and not owed:
        yield "open, and nothing remains"
    yield from _notes(store, invoice)
    yield from _moved(store, invoice)


def _notes(store: Store, invoice: Record) -> Iterator[str]:
    notes = list(store.scan("credit_note", index=("invoice", invoice["id"])))
    issued = [note for note in notes if note["status"] == "issued"]
    for field, amount in ((PRE, "pre_payment_amount"), (POST, "post_payment_amount")):
        if sum(note[amount] for note in issued) != invoice[field]:
            yield f"{field} is not its credit notes"
    if issued and invoice[PRE] + invoice[POST] > invoice["total"]:
        yield "more is credited than was billed"
    for note in notes:
        if sum(line["amount"] for line in note["_lines"]) != note["total"]:
            yield f"the lines of {note['number']} are not its total"

        if (
            _amount_of(store, note)
            != (note["out_of_band_amount"] or 0) - (note["post_payment_amount"])
        ):
            yield f"{note['number']} is not what went to the balance"


def _amount_of(store: Store, note: Record) -> int:
    id = note["customer_balance_transaction"]
    transaction = store.get(TRANSACTION, id) if id else None
    return int(transaction["amount"]) if transaction else 0


def _moved(store: Store, invoice: Record) -> Iterator[str]:
    """Compare what an invoice did to the balance with what it says it did."""
    if (store.get("customer", invoice["customer"]) or {}).get("deleted"):
        return
    moved = {True: 0, False: 0}
    for transaction in store.scan(TRANSACTION, index=("customer", invoice["customer"])):
        if transaction["invoice"] == invoice["id"] and not transaction["credit_note"]:
            moved[transaction["type"] == "unapplied_from_invoice"] += transaction[
                "amount"
            ]
    applied = invoice["ending_balance"] - invoice["starting_balance"]
    if moved[False] != applied:
        yield "its transactions are not what it took from the balance"
    if moved[True] != (-applied if invoice["status"] == "void" else 0):
        yield "what it gave back to the balance is not what it took"


def _customer(store: Store, customer: Record) -> Iterator[str]:
    balance = 0
    index = ("customer", customer["id"])
    for transaction in store.scan(TRANSACTION, index=index, newest_first=False):
        balance += transaction["amount"]
        if transaction["ending_balance"] != balance:
            yield f"ending_balance of {transaction['id']} is not the sum before it"
    if balance != customer["balance"]:
        yield "the balance is not the sum of its transactions"
