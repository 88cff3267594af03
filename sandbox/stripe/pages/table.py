"""Sections and tables; on a narrow screen each row becomes a card.

The ARIA roles repeat the elements' own: browsers drop the semantics of a table when CSS
changes the `display` of its elements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.common.html.elements import Child, Html, tag
from sandbox.stripe.pages.dashboard.query import MAX_ROWS, PAGE_SIZE, View

#: Suffix of the names of columns with numbers.
NUMBER = "#"


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of one object, with optional details that expand below them."""

    id: str
    cells: Sequence[Child]
    summary: Child = None
    details: Child = None


def section(
    name: str, title: str, *body: Child, count: str | None = None, wide: bool = True
) -> Html:
    """Return a section with a heading; `name` is the anchor for links."""
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
    """Return a table, or the text `empty` if there are no rows."""
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


def more(view: View, name: str, row_count: int, title: str) -> Html | None:
    """Return the link to more rows of a table, if there may be more."""
    limit = view.limit(name)
    if row_count < limit:
        return None
    if limit >= MAX_ROWS:
        return tag(
            "p", f"Only the newest {MAX_ROWS:,} rows are displayed.", class_="empty"
        )
    href = f"{view.with_more(name).url()}#{name}"
    label = f"{PAGE_SIZE} more"
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
    expandable = row.details is not None
    first = tag(
        "tr", cells, role="row", id=row.id, class_="folds" if expandable else None
    )
    return (first, _details_row(row, len(columns))) if expandable else first


def _details_row(row: Row, width: int) -> Html:
    details = tag(
        "details",
        tag("summary", row.summary),
        tag("div", row.details),
        id=f"fold-{row.id}",
    )
    cell = tag("td", details, colspan=width, role="cell")
    return tag("tr", cell, role="row", id=f"more-of-{row.id}", class_="fold")


def _class(column: str) -> str | None:
    return "number" if column.endswith(NUMBER) else None
