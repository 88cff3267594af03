"""Parameter `expand[]`: replaces ids by objects (docs: Expanding responses)."""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.routing import Registry
from sandbox.stripe.store.records import Store

MAX_DEPTH = 4
KINDS = {
    "bpc": "billing_portal.configuration",
    "cbtxn": "customer_balance_transaction",
    "cn": "credit_note",
    "ch": "charge",
    "cus": "customer",
    "in": "invoice",
    "inpay": "invoice_payment",
    "pi": "payment_intent",
    "pm": "payment_method",
    "price": "price",
    "prod": "product",
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
            if len([step for step in steps if step != "data"]) > MAX_DEPTH:
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
        if not isinstance(value, dict):
            raise _not_expandable(path)
        step, rest = steps[0], steps[1:]
        child = self._child(value, step, path)
        is_last = step in value and not rest
        if step == "id" or (is_last and not _is_expandable(child)):
            raise _not_expandable(path)
        return {**value, step: self._descend(child, rest, path)}

    def _child(self, parent: Mapping[str, Any], step: str, path: str) -> Any:
        # `object` is no type name in an event's `data`: there it is the object itself.
        kind = parent.get("object")
        resource = self._registry.by_name.get(kind) if isinstance(kind, str) else None
        if step not in parent and resource and step in resource.includable:
            record = self._store.get(resource.name, parent["id"])
            return resource.includable[step](self._store, record or parent)
        if step not in parent:
            raise _not_expandable(path)
        child = parent[step]
        return self._resolve(child) if isinstance(child, str) else child

    def _resolve(self, id: str) -> Any:
        kind = KINDS.get(id.partition("_")[0])
        record = self._store.get(kind, id) if kind else None
        return self._registry.render(self._store, record) if record else id


def _is_expandable(child: Any) -> bool:
    """Return whether a value is allowed at the end of a path: objects, lists, null."""
    if isinstance(child, dict):
        return "object" in child
    return child is None or isinstance(child, list)


def _not_expandable(path: str) -> Exception:
    return invalid(
        f"This property cannot be expanded ({path}).",
        param="expand",
    )
