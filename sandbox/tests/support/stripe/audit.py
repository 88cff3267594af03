"""Consistency checks on the amounts of invoices, credit notes, balances and charges.

Source: SDK docstrings of Invoice (`amount_due`, `amount_remaining`,
`starting_balance`, `ending_balance`), CreditNote and CustomerBalanceTransaction.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from sandbox.stripe.store.records import Record, Store

TRANSACTION = "customer_balance_transaction"
PRE, POST = "pre_payment_credit_notes_amount", "post_payment_credit_notes_amount"


def audit(store: Store) -> list[str]:
    """Return a description of each inconsistency; an empty list if there is none."""
    return [
        *(
            f"{invoice['id']} ({invoice['status']}): {problem}"
            for invoice in store.scan("invoice")
            for problem in _check_invoice(store, invoice)
        ),
        *(
            f"{customer['id']}: {problem}"
            for customer in store.scan("customer")
            if not customer.get("deleted")
            for problem in _check_customer(store, customer)
        ),
        *(
            f"{charge['id']} ({charge['status']}): {problem}"
            for charge in store.scan("charge")
            for problem in _check_charge(store, charge)
        ),
        *_check_items(store),
        *_check_coupons_for_one_invoice(store),
    ]


def _check_invoice(store: Store, invoice: Record) -> Iterator[str]:
    yield from _check_lines(invoice)
    if invoice["status"] == "draft":
        return
    due = invoice["total"] + invoice["starting_balance"] - invoice["ending_balance"]
    if invoice["amount_due"] != due - invoice[PRE]:
        yield "amount_due is not the total less balance and credit notes"
    remaining = invoice["amount_due"] - invoice["amount_paid"]
    if invoice["amount_remaining"] != remaining:
        yield "amount_remaining is not amount_due less amount_paid"
    if remaining < 0 or invoice["amount_due"] < 0 or invoice["amount_paid"] < 0:
        yield "an amount is negative"
    if invoice["status"] == "paid" and remaining:
        yield "paid, but an amount remains"
    if invoice["status"] == "open" and not remaining:
        yield "open, but no amount remains"
    yield from _check_credit_notes(store, invoice)
    yield from _check_balance_movement(store, invoice)


def _check_lines(invoice: Record) -> Iterator[str]:
    """Compare the amounts, discounts and taxes of the lines with the totals."""
    lines = invoice["_lines"]
    discounts = _sums(lines, "discount_amounts", _discount_of)
    taxes = _sums(lines, "taxes", _tax_rate_of)
    if sum(line["amount"] for line in lines) != invoice["subtotal"]:
        yield "the lines do not add up to the subtotal"
    if discounts != _sums([invoice], "total_discount_amounts", _discount_of):
        yield "the discounts of the lines do not add up to those of the invoice"
    if taxes != _sums([invoice], "total_taxes", _tax_rate_of):
        yield "the taxes of the lines do not add up to those of the invoice"
    exclusive, inclusive = _taxes(invoice, "exclusive"), _taxes(invoice, "inclusive")
    net = invoice["subtotal"] - discounts.total()
    if invoice["total"] != net + exclusive:
        yield "the total is not the subtotal less discounts plus exclusive taxes"
    if invoice["total_excluding_tax"] != net - inclusive:
        yield "total_excluding_tax is not the total less all taxes"
    for line in lines:
        if any(entry["amount"] < 0 for entry in line["discount_amounts"]):
            yield f"a discount of {line['id']} is negative"
        taken = sum(entry["amount"] for entry in line["discount_amounts"])
        if taken > max(line["amount"], 0):
            yield f"the discounts of {line['id']} exceed its amount"


def _sums(
    owners: Iterable[Record], field: str, key: Callable[[Record], str]
) -> Counter[str]:
    sums: Counter[str] = Counter()
    for entry in (entry for owner in owners for entry in owner[field]):
        if entry["amount"]:
            sums[key(entry)] += entry["amount"]
    return Counter({name: amount for name, amount in sums.items() if amount})


def _discount_of(entry: Record) -> str:
    return str(entry["discount"])


def _tax_rate_of(entry: Record) -> str:
    return str(entry["tax_rate_details"]["tax_rate"])


def _taxes(invoice: Record, behavior: str) -> int:
    return sum(
        tax["amount"]
        for tax in invoice["total_taxes"]
        if tax["tax_behavior"] == behavior
    )


def _check_credit_notes(store: Store, invoice: Record) -> Iterator[str]:
    notes = list(store.scan("credit_note", index=("invoice", invoice["id"])))
    issued = [note for note in notes if note["status"] == "issued"]
    for field, amount in ((PRE, "pre_payment_amount"), (POST, "post_payment_amount")):
        if sum(note[amount] for note in issued) != invoice[field]:
            yield f"{field} is not the sum of its credit notes"
    if issued and invoice[PRE] + invoice[POST] > invoice["total"]:
        yield "credit notes exceed the total"
    for note in notes:
        if sum(line["amount"] for line in note["_lines"]) != note["subtotal"]:
            yield f"the lines of {note['number']} do not add up to its subtotal"
        if note["total"] != note["subtotal"] + _taxes(note, "exclusive"):
            yield f"the total of {note['number']} is not its subtotal plus taxes"
        given_back = sum(link["amount_refunded"] for link in note["refunds"])
        if note["post_payment_amount"] != (
            given_back
            + (note["out_of_band_amount"] or 0)
            - _balance_amount(store, note)
        ):
            yield f"{note['number']} does not match its refunds and its transaction"
    yield from _check_links(store, issued)
    yield from _check_credited_taxes(invoice, issued)


def _check_credited_taxes(invoice: Record, notes: list[Record]) -> Iterator[str]:
    """Compare the taxes of an invoice with those of its credit notes, if these have."""
    credited = _sums(notes, "total_taxes", _tax_rate_of)
    is_whole = sum(note["amount"] for note in notes) == invoice["total"]
    for tax in invoice["total_taxes"] if credited else ():
        amount, given_back = tax["amount"], credited[_tax_rate_of(tax)]
        if not min(amount, 0) <= given_back <= max(amount, 0):
            yield "credit notes exceed a tax"
        if is_whole and given_back != amount:
            yield "credit notes over the whole invoice leave a part of a tax"


def _check_links(store: Store, notes: list[Record]) -> Iterator[str]:
    """Compare the refunds of an invoice with the amounts linked to its notes."""
    linked: Counter[str] = Counter()
    for link in (link for note in notes for link in note["refunds"]):
        linked[link["refund"]] += link["amount_refunded"]
    for id, amount in linked.items():
        refund = store.get("refund", id)
        if refund is None or amount > refund["amount"]:
            yield f"its credit notes give back more than the refund {id}"


def _balance_amount(store: Store, note: Record) -> int:
    id = note["customer_balance_transaction"]
    transaction = store.get(TRANSACTION, id) if id else None
    return int(transaction["amount"]) if transaction else 0


def _check_balance_movement(store: Store, invoice: Record) -> Iterator[str]:
    """Compare an invoice's balance transactions with its balance fields."""
    if (store.get("customer", invoice["customer"]) or {}).get("deleted"):
        return
    applied = unapplied = 0
    for transaction in store.scan(TRANSACTION, index=("customer", invoice["customer"])):
        if transaction["invoice"] == invoice["id"] and not transaction["credit_note"]:
            if transaction["type"] == "unapplied_from_invoice":
                unapplied += transaction["amount"]
            else:
                applied += transaction["amount"]
    expected = invoice["ending_balance"] - invoice["starting_balance"]
    if applied != expected:
        yield "its transactions do not match the change of the balance"
    if unapplied != (-expected if invoice["status"] == "void" else 0):
        yield "the amount returned to the balance is not the amount applied"


def _check_charge(store: Store, charge: Record) -> Iterator[str]:
    """Compare a charge with its refunds."""
    given_back = sum(
        refund["amount"]
        for refund in store.scan("refund", index=("charge", charge["id"]))
        if refund["status"] not in ("canceled", "failed")
    )
    if charge["amount_refunded"] != given_back:
        yield "amount_refunded is not the sum of its refunds"
    captured = charge["amount"] if charge["paid"] else 0
    if charge["amount_captured"] != captured or given_back > captured:
        yield "more was given back than captured"
    yield from _check_disputes(store, charge)
    if charge["refunded"] != (0 < given_back == charge["amount"]):
        yield "refunded is not whether all was given back"


def _check_disputes(store: Store, charge: Record) -> Iterator[str]:
    """Compare what was taken back with the status of each dispute."""
    disputes = list(store.scan("dispute", index=("charge", charge["id"])))
    if charge["disputed"] != bool(disputes):
        yield "disputed is not whether it has disputes"
    lasting = 0
    for dispute in disputes:
        taken = -sum(item["amount"] for item in dispute["balance_transactions"])
        is_kept = dispute["status"] in ("lost", "needs_response", "under_review")
        if taken != (dispute["amount"] if is_kept else 0):
            yield f"{dispute['id']} has not moved the disputed amount"
        lasting += taken
    if lasting + charge["amount_refunded"] > charge["amount"]:
        yield "more was given and taken back than captured"


def _check_items(store: Store) -> Iterator[str]:
    """Compare each invoice item with the invoice lines for it."""
    lines: dict[str, list[tuple[str, int]]] = {}
    for invoice in store.scan("invoice"):
        for line in invoice["_lines"]:
            id = line["parent"][line["parent"]["type"]]["invoice_item"]
            lines.setdefault(id, []).append((invoice["id"], line["amount"]))
    for item in store.scan("invoiceitem"):
        is_invoiced = store.get("invoice", item["invoice"] or "") is not None
        expected = [(item["invoice"], item["amount"])] if is_invoiced else []
        if lines.get(item["id"], []) != expected:
            yield f"{item['id']} is not the line of its invoice"


def _check_coupons_for_one_invoice(store: Store) -> Iterator[str]:
    """Look for discounts with `duration=once` that reduce two invoices, or can."""
    used: dict[str, set[str]] = {}
    for invoice in store.scan("invoice"):
        for id in _sums(invoice["_lines"], "discount_amounts", _discount_of):
            used.setdefault(id, set()).add(invoice["id"])
    for discount in store.scan("discount"):
        invoices = used.get(discount["id"], set())
        # One of an invoice stays on it.
        is_live = not discount["_ended"] and discount["invoice"] is None
        if discount["_coupon"]["duration"] == "once" and len(invoices) + is_live > 1:
            yield f"{discount['id']} reduces more than one invoice"


def _check_customer(store: Store, customer: Record) -> Iterator[str]:
    balance = 0
    index = ("customer", customer["id"])
    for transaction in store.scan(TRANSACTION, index=index, newest_first=False):
        balance += transaction["amount"]
        if transaction["ending_balance"] != balance:
            yield f"ending_balance of {transaction['id']} is not the sum up to it"
    if balance != customer["balance"]:
        yield "the balance is not the sum of its transactions"
