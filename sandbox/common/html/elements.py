"""Functions that build HTML and escape everything that is not markup."""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Html(str):
    """Markup, which is not escaped."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
VOID = frozenset({"br", "input", "link", "meta"})


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Attributes: `class_` and `for_` because of Python's keywords, `data_x` for `data-x`;
    None and False omit the attribute.
    """
    start = "".join(_attribute(*item) for item in attributes.items())
    if name in VOID:
        return Html(f"<{name}{start}>")
    return Html(f"<{name}{start}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Return the concatenated children, with plain text escaped."""
    return Html("".join(_child(child) for child in children))


def document(
    title: str, style: str, body: Html, *, script: str = "", refresh: str = ""
) -> Html:
    """Return a complete page; `refresh` is a URL that the browser opens at once."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=f"0;url={refresh}")
        if refresh
        else None,
        tag("title", title),
        tag("link", rel="icon", href="/_pages/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/_pages/theme.css"),
        tag("link", rel="stylesheet", href=f"/_pages/{style}"),
        tag("script", src=f"/_pages/{script}", defer=True) if script else None,
    )
    page = tag("html", tag("head", *head), tag("body", body), lang="en")
    return Html(f"<!doctype html>\n{page}\n")


def _child(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if child is None:
        return ""
    if isinstance(child, str | int):
        return escape(str(child))
    return join(child)


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
