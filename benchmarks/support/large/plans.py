"""Plans as PostgreSQL executed them: the rows that each scan has read and kept."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: A table below this number of rows may be read whole: no index is cheaper.
SMALL = 20_000
#: Rows that a statement may read of one table, whatever it returns.
_FREE_ROWS = 2_500
#: Most rows that a statement may read of one table: the largest batch of a sweep is
#: 10,000 rows, and it writes them, too.
_MAX_ROWS = 25_000
#: Share of a table that a statement may read, and rows read for each one kept.
_MAX_SHARE, _MAX_WASTE = 0.3, 20
_LITERAL = re.compile(r"'(?:[^']|'')*'(::\w+)?|\b\d+(?:\.\d+)?\b")
_LIST = re.compile(r"\(\?(?:, \?)+\)")


@dataclass(frozen=True)
class Scan:
    """One node of a plan that reads a table."""

    table: str
    kind: str
    index: str
    read: float
    kept: float

    def __str__(self) -> str:
        place = self.index or self.table
        discarded = f" of {self.read:,.0f} read" if self.read > self.kept + 0.5 else ""
        return f"{self.kind} {place} ({self.kept:,.0f}{discarded})"


@dataclass(frozen=True)
class Statement:
    """A statement that was executed, with its plan and its time in milliseconds."""

    text: str
    milliseconds: float
    plan: Mapping[str, Any]

    @cached_property
    def shape(self) -> str:
        """The statement without values, for comparison with others."""
        return _LIST.sub("(?, …)", _LITERAL.sub("?", self.text))

    @cached_property
    def scans(self) -> list[Scan]:
        return list(_scans(self.plan))

    @property
    def rows_read(self) -> float:
        return sum(scan.read for scan in self.scans)

    @property
    def summary(self) -> str:
        """The plan in one line, innermost last."""
        return " ← ".join(_nodes(self.plan))

    def faults(self, sizes: Mapping[str, float]) -> list[str]:
        """Describe the scans that read too much of a table of the given sizes."""
        faults = []
        read: dict[str, float] = {}
        for scan in self.scans:
            size = sizes.get(scan.table, 0.0)
            read[scan.table] = read.get(scan.table, 0.0) + scan.read
            is_wasteful = scan.read > _FREE_ROWS + _MAX_WASTE * scan.kept
            if scan.kind == "Seq Scan" and size >= SMALL:
                faults.append(f"reads all of {scan.table}")
            elif size and is_wasteful:
                faults.append(f"discards most of what it reads of {scan.table}")
        for table, rows in read.items():
            limit = max(_FREE_ROWS, min(_MAX_ROWS, _MAX_SHARE * sizes.get(table, 0.0)))
            if table in sizes and rows > limit:
                faults.append(f"reads {rows:,.0f} rows of {table}")
        return faults


def _scans(node: Mapping[str, Any]) -> Iterator[Scan]:
    if table := node.get("Relation Name"):
        loops = node["Actual Loops"]
        kept = node["Actual Rows"] * loops
        removed = (
            node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        ) * loops
        if node["Node Type"] != "ModifyTable":
            yield Scan(table, node["Node Type"], _index(node), kept + removed, kept)
    for child in node.get("Plans", ()):
        yield from _scans(child)


def _index(node: Mapping[str, Any]) -> str:
    """Return the index of a scan; a bitmap's are its children."""
    names = [str(node["Index Name"])] if "Index Name" in node else []
    if node["Node Type"].startswith("Bitmap"):
        names += [name for child in node.get("Plans", ()) if (name := _index(child))]
    return ", ".join(names)


def _nodes(node: Mapping[str, Any]) -> Iterator[str]:
    kind = str(node.get("Operation") or node["Node Type"])
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        yield str(next(_scans(node)))
    elif node["Node Type"] not in {"Limit", "LockRows", "Result", "BitmapOr"}:
        yield kind
    if not node["Node Type"].startswith("Bitmap"):
        for child in node.get("Plans", ()):
            yield from _nodes(child)
