"""Sections and tables; on a narrow screen each row becomes a card.

The roles say again what the elements say: a browser forgets that a table is one when
the style no longer lays it out as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.view import MOST, STEP, View

#: A column whose name ends so holds numbers.
NUMBER = "#"


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one object, and what unfolds below them."""

    id: str
    cells: Sequence[Child]
    summary: Child = None
    unfolded: Child = None


def section(
    name: str, title: str, *body: Child, count: str | None = None, wide: bool = True
) -> Html:
    """Return a part of the page under a heading, named for links to it."""
    heading = tag("h2", title, tag("span", count, class_="count") if count else None)
    return tag(
        "section",
        tag("header", heading),
        body,
        id=name,
        aria_label=title,
        class_="wide" if wide else None,
    )


def table(name: str, columns: Sequence[str], rows: Sequence[Row], empty: str) -> Html:
    """Return a table, or a sentence that says why there is none."""
    if not rows:
        return tag("p", empty, class_="empty")
    head = [
        tag(
            "th",
            column.rstrip(NUMBER),
            scope="col",
            role="columnheader",
            class_=_class(column),
        )
        for column in columns
    ]
    return tag(
        "table",
        tag("thead", tag("tr", head, role="row"), role="rowgroup"),
        tag("tbody", [_row(columns, row) for row in rows], role="rowgroup"),
        role="table",
        aria_label=name,
    )


def more(view: View, name: str, shown: int, title: str) -> Html | None:
    """Return the link to a table's next rows, if there can be any."""
    limit = view.limit(name)
    if shown < limit:
        return None
    if limit >= MOST:
        return tag("p", f"Only the newest {MOST:,} are shown.", class_="empty")
    href = f"{view.with_more(name).url()}#{name}"
    label = f"{STEP} more"
    link = tag(
        "a",
        label,
        href=href,
        id=f"more-{name}",
        data_more=True,
        aria_label=f"{label} {title}",
    )
    return tag("p", link, class_="more-link")


def _row(columns: Sequence[str], row: Row) -> Child:
    cells = [
        tag(
            "td",
            cell,
            role="cell",
            data_label=column.rstrip(NUMBER),
            class_=_class(column),
        )
        for column, cell in zip(columns, row.cells, strict=True)
    ]
    folds = row.unfolded is not None
    first = tag("tr", cells, role="row", id=row.id, class_="folds" if folds else None)
    return (first, _fold(row, len(columns))) if folds else first


def _fold(row: Row, width: int) -> Html:
    details = tag(
        "details",
        tag("summary", row.summary),
        tag("div", row.unfolded),
        id=f"fold-{row.id}",
    )
    cell = tag("td", details, colspan=width, role="cell")
    return tag("tr", cell, role="row", id=f"more-of-{row.id}", class_="fold")


def _class(column: str) -> str | None:
    return "number" if column.endswith(NUMBER) else None
