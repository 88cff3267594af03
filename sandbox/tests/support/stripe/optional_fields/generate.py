"""Write `fields.txt` from the unpacked npm package `stripe` of the same API version.

npm pack stripe@23.1.0 && tar xzf stripe-23.1.0.tgz
python -m sandbox.tests.support.stripe.optional_fields.generate package
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import stripe

from sandbox.stripe import API_VERSION
from sandbox.tests.support.stripe import types
from sandbox.tests.support.stripe.optional_fields import FILE, is_optional, key

HEADER = f"""\
# Made by generate.py from the type declarations of stripe-node, API {API_VERSION}
# https://github.com/stripe/stripe-node (MIT)
"""
# Objects that the sandbox sends, and those that it may learn to send.
OBJECTS = """
    account balance_transaction billing_portal.configuration billing_portal.session
    charge coupon credit_note credit_note_line_item customer
    customer_balance_transaction discount dispute event invoice invoice_payment
    invoiceitem line_item payment_intent payment_method payment_record plan price
    product promotion_code radar.early_fraud_warning refund subscription
    subscription_item tax_rate test_helpers.test_clock webhook_endpoint
"""
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
BLOCK = re.compile(r"(?:export )?(?:declare )?(?:interface|namespace|class) (\w+).*\{$")
FIELD = re.compile(r"(\w+)(\??): (.*);$")


class Presence(NamedTuple):
    """Presence of a field by stripe-node."""

    absent: bool
    null: bool


Declared = dict[str, dict[str, Presence]]


def main() -> None:
    root = Path(sys.argv[1]) / "esm"
    assert f"'{API_VERSION}'" in (root / "apiVersion.js").read_text()
    declared = dict(_declarations(root))
    lines = sorted(filter(None, (_line(cls, declared) for cls in sent_classes())))
    FILE.write_text(HEADER + "\n".join(lines) + "\n")


def _declarations(root: Path) -> Iterator[tuple[str, dict[str, Presence]]]:
    for path in (root / "shared.d.ts", *sorted(root.glob("resources/**/*.d.ts"))):
        folders = path.relative_to(root).parent.parts[1:]
        words = (re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in folders)
        prefix = "".join(f"{word}." for word in words)
        for name, fields in _interfaces(path.read_text()).items():
            yield prefix + name, fields


def _interfaces(text: str) -> Declared:
    """Return the fields of each interface by its name with its namespaces."""
    found: Declared = {}
    blocks: list[str] = []
    for line in map(str.strip, COMMENT.sub("", text).splitlines()):
        if line.endswith("{"):
            block = BLOCK.match(line)
            blocks.append(block[1] if block else "")
        elif line.startswith("}"):
            blocks.pop()
        elif field := FIELD.match(line):
            presence = Presence(bool(field[2]), field[3].endswith("| null"))
            found.setdefault(".".join(blocks), {})[field[1]] = presence
    return found


def sent_classes() -> set[Any]:
    """Return the SDK's classes of the objects, with the nested ones."""
    found: set[Any] = set()
    pending = [types.resources()[name] for name in OBJECTS.split()]
    while pending:
        cls = pending.pop()
        if cls not in found:
            found.add(cls)
            pending += _nested(types.resolved(cls).values())
    return found


def _nested(annotations: Iterable[Any]) -> Iterator[Any]:
    for annotation in annotations:
        is_class = isinstance(annotation, type)
        if is_class and issubclass(annotation, stripe.StripeObject):
            yield from [annotation] if "." in annotation.__qualname__ else []
        yield from _nested(get_args(annotation))


def _line(cls: Any, declared: Declared) -> str:
    """Return the line of a class; "" if each of its fields is always there."""
    # stripe-node shares one declaration of an address, and one of an event's fields.
    shared = {"Event": "EventBase"}.get(cls.__name__, "Address")
    fields = declared.get(key(cls)) or declared[shared]
    # stripe-node does not list some fields that it types otherwise; none is nullable.
    unknown = Presence(absent=True, null=False)
    names = [
        name + "?" * null
        for name, annotation in types.resolved(cls).items()
        for absent, null in [fields.get(name, unknown)]
        # Also the fields of a customer that only stripe-node says are always there.
        if is_optional(annotation) and (absent or not null)
    ]
    return f"{key(cls)}: {' '.join(names)}" if names else ""


if __name__ == "__main__":
    main()
