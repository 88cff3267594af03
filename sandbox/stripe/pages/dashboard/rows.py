"""Rows of the tables: records with the fields that other records give."""

import json
from typing import Any

from sandbox.common.http import dump_json
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import payment_records
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages import price_labels
from sandbox.stripe.store.records import Record, Store

Row = dict[str, Any]
MAX_SUMMARY_LENGTH = 160
HOSTED = {"invoice": page_urls.INVOICE_PATH, page_urls.SESSION: page_urls.SESSION_PATH}


def customer(store: Store, record: Record) -> Row:
    """Return a customer with the ids and labels of its default `card` and discount."""
    # The tombstone of a deleted customer has its last state, but no other fields.
    record = record.get("_last", record)
    id = record["invoice_settings"]["default_payment_method"]
    method: Any = store.get("payment_method", id) if id else None
    card = None
    if method is not None:
        card = method.get("card") or {}
        label = f"{card['brand']} •••• {card['last4']}" if card else method["type"]
        card = {"id": id, "label": label}
    ids = discounts.of_customer(store, record["id"])
    labels = [{"id": id, "label": price_labels.discount(store, id)} for id in ids]
    return {**record, "card": card, "discounts": labels}


def subscription(store: Store, record: Record) -> Row:
    """Return a subscription as its table shows it.

    With `discounts`, `prices`, `tax_rates`, `period_end` and `invoice_number`.
    """
    items = record["_items"]
    invoice: Any = store.get("invoice", record["latest_invoice"] or "") or {}
    return {
        **record,
        "discounts": [
            {"id": id, "label": price_labels.discount(store, id)}
            for id in discounts.live(store, record["_discounts"])
        ],
        "prices": [_price(store, item) for item in items],
        "tax_rates": tax_rates.render_all(store, record["_default_tax_rates"]),
        "period_end": max((item["current_period_end"] for item in items), default=None),
        "invoice_number": invoice.get("number"),
    }


def invoice(store: Store, record: Record) -> Row:
    """Return an invoice with `all_lines`, `price_sums` and its hosted `page`, or None.

    Also with its last `charge` and the newest `dispute` of it, or None.
    """
    charge = payment_records.find_charge(store, record["id"])
    index = ("charge", charge["id"] if charge else "")
    return {
        **REGISTRY.render(store, record),
        "all_lines": record["_lines"],
        "price_sums": price_labels.between_subtotal_and_total(store, record),
        "charge": charge,
        "dispute": next(store.scan("dispute", index=index), None),
        "page": hosted_page(record),
    }


def event(record: Record) -> Row:
    """Return an event with the object that it is about as `subject`."""
    return {**record, "subject": json.loads(record["_data"])["object"]}


def delivery(store: Store, record: Record) -> Row:
    """Return a pending delivery with the `type` of its event and the `url`."""
    event = store.get("event", record["event"]) or {}
    endpoint = store.get("webhook_endpoint", record["endpoint"]) or {}
    url = endpoint.get("url", record["endpoint"])
    return {**record, "type": event.get("type", ""), "url": url}


def hosted_page(record: Record) -> str | None:
    """Return the URL of an object's hosted page, or None."""
    path = HOSTED.get(record["object"])
    return f"{path}{record['_token']}" if path and record["_token"] else None


def one_line(params: dict[str, Any]) -> str:
    """Return the parameters of a request on one line of limited length."""
    text = ", ".join(
        f"{key}={value if isinstance(value, str) else dump_json(value)}"
        for key, value in params.items()
    )
    return text if len(text) <= MAX_SUMMARY_LENGTH else f"{text[:MAX_SUMMARY_LENGTH]}…"


def _price(store: Store, item: Record) -> Row:
    price = store.get("price", item["price"]) or {}
    product = store.get("product", price.get("product", "")) or {}
    name = product.get("name") or item["price"]
    quantity = item.get("quantity")
    label = name if quantity is None else quantity_text(quantity, name)
    return {"id": item["price"], "label": label}
