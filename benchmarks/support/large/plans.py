"""Plans as PostgreSQL executed them: the rows that each scan has read and kept."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
    #: Times that it was executed: once for each row of an outer scan.
    loops: float

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

    def faults(self, limits: "Limits") -> list[str]:
        """Describe the scans that read too much of a table that grows."""
        read: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for scan in self.scans:
            read[scan.table] += round(scan.read)
            # A look at one row is no waste, whatever is found.
            kept[scan.table] += round(max(scan.kept, scan.loops - 1))
        return [
            f"reads {rows:,} rows of {table}, keeps {kept[table]:,}"
            for table, rows in read.items()
            if table in limits.growing and not limits.allow(rows, kept[table])
        ]


@dataclass(frozen=True)
class Limits:
    """Rows that a statement may read of one table that grows."""

    growing: frozenset[str]
    #: Whatever it returns: the largest batch, and all that a list counts.
    most: int
    #: For each one kept, once it reads more than a tenth of `most`.
    waste: int = 20

    def allow(self, read: int, kept: int) -> bool:
        return read <= self.most and read <= self.most / 10 + self.waste * kept


def _scans(node: Mapping[str, Any]) -> Iterator[Scan]:
    if table := node.get("Relation Name"):
        loops = node["Actual Loops"]
        kept = node["Actual Rows"] * loops
        removed = (
            node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        ) * loops
        if node["Node Type"] != "ModifyTable":
            kind = node["Node Type"]
            yield Scan(table, kind, _index(node), kept + removed, kept, loops)
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
