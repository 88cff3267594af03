"""Parameter `expand[]`: replaces ids by objects (docs: Expanding responses)."""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.routing import Registry
from sandbox.stripe.store.records import Store

MAX_DEPTH = 4
KINDS = {
    "bpc": "billing_portal.configuration",
    "cbtxn": "customer_balance_transaction",
    "cn": "credit_note",
    "ch": "charge",
    "cus": "customer",
    "di": "discount",
    "du": "dispute",
    "in": "invoice",
    "inpay": "invoice_payment",
    "issfr": "radar.early_fraud_warning",
    "pi": "payment_intent",
    "pm": "payment_method",
    "pr": "payment_record",
    "price": "price",
    "prod": "product",
    # Payments and refunds of other methods than cards.
    "py": "charge",
    "pyr": "refund",
    "re": "refund",
    "sub": "subscription",
}


class Expansion:
    """Expansion of one response. Objects along a path are copied, not changed."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def apply(self, content: dict[str, Any], paths: list[str]) -> dict[str, Any]:
        """Return the response with every path expanded. Raises a 400."""
        for path in paths:
            steps = path.split(".")
            if len(steps) - steps.count("data") > MAX_DEPTH:
                raise invalid(
                    f"You cannot expand more than {MAX_DEPTH} levels of a property. "
                    f"Property: {path}",
                    param="expand",
                )
            content = self._descend(content, steps, path)
        return content

    def _descend(self, value: Any, steps: list[str], path: str) -> Any:
        if isinstance(value, list):
            return [self._descend(item, steps, path) for item in value]
        if not steps or value is None:
            return value
        step, rest = steps[0], steps[1:]
        if not isinstance(value, dict) or step == "id":
            raise _not_expandable(path)
        child = self._child(value, step, path)
        if child is None and step not in value:
            return value
        # The last step leads to an object, a list or null.
        if step in value and not rest and not (child is None or _is_nested(child)):
            raise _not_expandable(path)
        return {**value, step: self._descend(child, rest, path)}

    def _child(self, parent: Mapping[str, Any], step: str, path: str) -> Any:
        if step in parent:
            return self._expanded(step, parent[step])
        # `object` is no type name in an event's `data`: there it is the object itself.
        kind = parent.get("object")
        resource = self._registry.by_name.get(kind) if isinstance(kind, str) else None
        if resource is None or step not in resource.includable:
            raise _not_expandable(path)
        record = self._store.get(resource.name, parent["id"])
        return resource.includable[step](self._store, record or parent)

    def _expanded(self, step: str, child: Any) -> Any:
        """Return the objects for an id or a list of ids; other values unchanged."""
        if type(child) is list:
            return [self._expanded(step, item) for item in child]
        if type(child) is not str:
            return child
        # The id of a coupon can be any text.
        kind = "coupon" if step == "coupon" else KINDS.get(child.partition("_")[0])
        record = self._store.get(kind, child) if kind else None
        return self._registry.render(self._store, record) if record else child


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "object" in value)


def _not_expandable(path: str) -> StripeError:
    return invalid(f"This property cannot be expanded ({path}).", param="expand")
