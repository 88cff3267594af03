"""Building blocks of the page: forms, fields, amounts."""

from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.common.html.elements import Child, Html, tag


def form(
    path: str, *body: Child, button: str, id: str | None = None, delete: bool = False
) -> Html:
    """Return a form that runs a command."""
    method = tag("input", type="hidden", name="method", value="DELETE")
    return tag(
        "form",
        method if delete else None,
        body,
        tag("button", button),
        method="post",
        action=f"/_pages/{path}",
        id=id,
    )


def field(
    label: str, name: str, id: str, value: str | int | None = None, **more: Any
) -> Html:
    """Return an input with its label; `id` must be unique on the page."""
    input = tag("input", name=name, id=id, value=value, autocomplete="off", **more)
    return tag("span", tag("label", label, for_=id), input, class_="pair")


def number(
    label: str, name: str, id: str, value: str | int | None = None, **more: Any
) -> Html:
    """Return a number input with its label."""
    return field(label, name, id, value, type="number", min=0, step="any", **more)


def choice(
    label: str, name: str, id: str, options: Mapping[str, str] | Iterable[str]
) -> Html:
    """Return a select with its label; options are words, or words with texts."""
    texts = options if isinstance(options, Mapping) else {o: o for o in options}
    words = [tag("option", text, value=word) for word, text in texts.items()]
    select = tag("select", words, name=name, id=id)
    return tag("span", tag("label", label, for_=id), select, class_="pair")


def suggestions(id: str, words: Mapping[str, str]) -> Html:
    """Return a datalist for inputs with this `list`."""
    return tag(
        "datalist",
        [tag("option", text, value=word) for word, text in words.items()],
        id=id,
    )


def copyable(label: str, text: str) -> Html:
    """Return a read-only input for a long text that is to be copied."""
    return tag("input", readonly=True, value=text, aria_label=label, class_="copy")


def sats(msat: int) -> str:
    """Format an amount: `21,000 sats`."""
    whole, rest = divmod(msat, 1_000)
    return f"{whole:,}{f'.{rest:03}'.rstrip('0') if rest else ''} sats"
