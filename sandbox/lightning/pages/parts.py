"""The small parts of the page: forms, fields, amounts."""

from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.stripe.pages.html import Child, Html, tag


def form(
    path: str, *body: Child, button: str, id: str | None = None, delete: bool = False
) -> Html:
    """Return a form that does a command."""
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
    """Return an input with its label; `id` tells it from those of other forms."""
    given = tag("input", name=name, id=id, value=value, autocomplete="off", **more)
    return tag("span", tag("label", label, for_=id), given, class_="pair")


def number(
    label: str, name: str, id: str, value: str | int | None = None, **more: Any
) -> Html:
    """Return an input for a number."""
    return field(label, name, id, value, type="number", min=0, step="any", **more)


def choice(
    label: str, name: str, id: str, options: Mapping[str, str] | Iterable[str]
) -> Html:
    """Return a list to choose from, of words or of words and what they mean."""
    meanings = options if isinstance(options, Mapping) else {o: o for o in options}
    words = [tag("option", text, value=word) for word, text in meanings.items()]
    chosen = tag("select", words, name=name, id=id)
    return tag("span", tag("label", label, for_=id), chosen, class_="pair")


def suggestions(id: str, words: Mapping[str, str]) -> Html:
    """Return what inputs with this `list` suggest: words and what they mean."""
    return tag(
        "datalist",
        [tag("option", text, value=word) for word, text in words.items()],
        id=id,
    )


def copyable(label: str, text: str) -> Html:
    """Return a text that is too long to be shown whole, ready to be copied."""
    return tag("input", readonly=True, value=text, aria_label=label, class_="copy")


def sats(msat: int) -> str:
    """Return an amount as people know it: `21,000 sats`."""
    whole, rest = divmod(msat, 1_000)
    return f"{whole:,}{f'.{rest:03}'.rstrip('0') if rest else ''} sats"
