"""Tables of billing objects: customers, subscriptions, invoices and others."""

from collections.abc import Mapping
from typing import Any

from sandbox.common.html.elements import Child, Html, join, tag
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages.dashboard.query import View
from sandbox.stripe.pages.dashboard.selection import Scope
from sandbox.stripe.pages.table import Row, more, section, table
from sandbox.stripe.pages.text import (
    NOTHING,
    badge,
    balance,
    metadata,
    moment,
    money,
    object_link,
    plural,
)
from sandbox.stripe.store.records import Record

# Types with a section of their own.
HAVE_SECTION = frozenset(
    {"customer", "event", "invoice", "subscription", "webhook_endpoint"}
)
MAX_LINES = 100
HOSTED = {
    "invoice": page_urls.INVOICE_PATH,
    page_urls.SESSION: page_urls.SESSION_PATH,
}
CUSTOMER_PAGE = "The page as the customer sees it"


def customers(scope: Scope) -> Html:
    """Return the section of customers."""
    rows = [_customer(scope, record) for record in scope.customers()]
    columns = ("Customer", "Balance#", "Default card", "Metadata", "Created")
    return section(
        "customers",
        "Customers",
        table("Customers", columns, rows, "No customers."),
        more(scope.view, "customers", len(rows), "customers"),
        count=scope.count("customer", len(rows), "customers"),
    )


def subscriptions(scope: Scope) -> Html:
    """Return the section of subscriptions."""
    records = scope.newest("subscription", "subscriptions")
    rows = [_subscription(scope, record) for record in records]
    columns = (
        "Subscription",
        "Customer",
        "Status",
        "Items",
        "Period ends",
        "Latest invoice",
    )
    return section(
        "subscriptions",
        "Subscriptions",
        table("Subscriptions", columns, rows, "No subscriptions."),
        more(scope.view, "subscriptions", len(rows), "subscriptions"),
        count=scope.count("subscription", len(rows), "subscriptions"),
    )


def invoices(scope: Scope) -> Html:
    """Return the section of invoices with expandable lines."""
    records = scope.newest("invoice", "invoices")
    rows = [_invoice(scope, record) for record in records]
    columns = ("Invoice", "Customer", "Status", "Total#", "Remaining#", "Due")
    return section(
        "invoices",
        "Invoices",
        table("Invoices", columns, rows, "No invoices."),
        more(scope.view, "invoices", len(rows), "invoices"),
        count=scope.count("invoice", len(rows), "invoices"),
    )


def other_kinds(scope: Scope) -> Html:
    """Return the section that counts objects of other types and links to them."""
    counts = {
        kind: count
        for kind, count in scope.store.counts().items()
        if count and kind in REGISTRY.by_name and kind not in HAVE_SECTION
    }
    items = [
        tag(
            "li",
            tag("a", _plural_name(kind), href=View(kind=kind).url()),
            f" {count:,}",
        )
        for kind, count in counts.items()
    ]
    body = (
        tag("ul", items, class_="kinds") if items else tag("p", "None.", class_="empty")
    )
    return section("kinds", "Other objects", body, wide=False)


def of_kind(scope: Scope, kind: str) -> Html:
    """Return the newest objects of one kind."""
    records = scope.newest(kind, "objects")
    rows = [
        Row(
            record["id"],
            (object_link(record["id"]), _summary(record), moment(record["created"])),
        )
        for record in records
    ]
    title = _plural_name(kind).capitalize()
    return section(
        "objects",
        title,
        table(title, ("Id", "Summary", "Created"), rows, "None."),
        more(scope.view, "objects", len(rows), _plural_name(kind)),
        count=f"{scope.store.count(kind):,}",
    )


def customer_link(scope: Scope, id: str | None) -> Html:
    """Return a link to the page of one customer."""
    if id is None:
        return NOTHING
    return tag("a", scope.name(id), href=View(customer=id).url())


def hosted_link(record: Record, label: str) -> Html | None:
    """Return a link to the hosted page of an object, or None."""
    path = HOSTED.get(record["object"])
    if path is None or not record["_token"]:
        return None
    return tag("a", label, href=f"{path}{record['_token']}", title=CUSTOMER_PAGE)


def _customer(scope: Scope, record: Record) -> Row:
    id, deleted = record["id"], record.get("deleted")
    # The tombstone of a deleted customer has its last state, but no other fields.
    record = record.get("_last", record)
    email = tag("span", record["email"], class_="soft") if record["name"] else None
    name = (
        tag("div", customer_link(scope, id), badge("deleted") if deleted else None),
        tag("div", email, object_link(id), class_="second"),
    )
    card = _card(scope, record["invoice_settings"]["default_payment_method"])
    created = moment(record["created"])
    return Row(id, (name, balance(record), card, metadata(record["metadata"]), created))


def _subscription(scope: Scope, record: Record) -> Row:
    items = [tag("li", _item(scope, item)) for item in record["_items"]]
    ends = max((item["current_period_end"] for item in record["_items"]), default=None)
    latest = record["latest_invoice"]
    return Row(
        record["id"],
        (
            (
                tag("div", object_link(record["id"])),
                tag("div", _collection(record), class_="soft"),
            ),
            customer_link(scope, record["customer"]),
            badge(record["status"]),
            tag("ul", items, class_="plain-list") if items else NOTHING,
            (moment(ends), _end(record)),
            object_link(latest, _invoice_name(scope, latest)) if latest else NOTHING,
        ),
    )


def _invoice(scope: Scope, record: Record) -> Row:
    content = REGISTRY.render(scope.store, record)
    currency, lines = content["currency"], record["_lines"]
    draft = "draft" if content["status"] == "draft" else None
    name = hosted_link(record, content["number"]) or draft
    return Row(
        record["id"],
        (
            (tag("div", name), tag("div", object_link(record["id"]))),
            customer_link(scope, content["customer"]),
            badge(content["status"]),
            money(content["total"], currency),
            money(content["amount_remaining"], currency)
            if content["amount_remaining"]
            else NOTHING,
            moment(content["due_date"]),
        ),
        summary=(
            tag("span", plural(len(lines), "line")),
            tag(
                "span",
                ", ".join(_line_text(line) for line in lines[:3]),
                class_="preview",
            ),
        ),
        details=_lines(lines),
    )


def _lines(lines: list[Record]) -> Html:
    items = [
        tag(
            "li",
            tag("span", _line_text(line)),
            tag("span", _period(line["period"]), class_="soft"),
            tag("span", money(line["amount"], line["currency"]), class_="amount"),
        )
        for line in lines[:MAX_LINES]
    ]
    if len(lines) > MAX_LINES:
        items.append(tag("li", f"and {plural(len(lines) - MAX_LINES, 'line')} more"))
    return tag("ul", items, class_="lines")


def _line_text(line: Record) -> str:
    return str(line["description"] or line["id"])


def _period(period: Mapping[str, int]) -> Child:
    if period["start"] == period["end"]:
        return moment(period["start"])
    return (moment(period["start"]), " – ", moment(period["end"]))


def _item(scope: Scope, item: Record) -> Html:
    price = scope.store.get("price", item["price"]) or {}
    product = scope.store.get("product", price.get("product", "")) or {}
    name = product.get("name") or item["price"]
    quantity = item.get("quantity")
    label = name if quantity is None else quantity_text(quantity, name)
    return object_link(item["price"], label)


def _collection(record: Record) -> str:
    if record["collection_method"] == "charge_automatically":
        return "charged automatically"
    return f"invoiced, due in {plural(record['days_until_due'] or 0, 'day')}"


def _end(record: Record) -> Html | None:
    if record["ended_at"]:
        return tag("div", "ended ", moment(record["ended_at"]), class_="soft")
    if record["cancel_at"]:
        return tag("div", "cancels ", moment(record["cancel_at"]), class_="soft")
    return None


def _invoice_name(scope: Scope, id: str) -> str | None:
    return (scope.store.get("invoice", id) or {}).get("number")


def _card(scope: Scope, id: str | None) -> Html:
    method: Any = scope.store.get("payment_method", id) if id else None
    if method is None:
        return NOTHING
    card = method.get("card") or {}
    label = f"{card['brand']} •••• {card['last4']}" if card else method["type"]
    return object_link(id or "", label)


def _summary(record: Record) -> Child:
    """Return the name, amount, status and customer of an object, if it has them."""
    parts: list[Child] = [record.get("name") or record.get("description")]
    for field in ("unit_amount", "amount"):
        if isinstance(record.get(field), int):
            parts.append(money(record[field], record.get("currency")))
    if isinstance(record.get("status"), str):
        parts.append(badge(record["status"]))
    if record.get("customer"):
        parts.append(object_link(record["customer"]))
    return join(tag("span", part, class_="part") for part in parts if part) or NOTHING


def _plural_name(kind: str) -> str:
    name = kind.replace("invoiceitem", "invoice item")
    return f"{name.replace('_', ' ').replace('.', ' ')}s"
