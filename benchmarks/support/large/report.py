"""Faults of statements, and their plans as a page of the documentation."""

from collections.abc import Iterator, Sequence

from benchmarks.support.large.places import Place
from benchmarks.support.large.plans import Limits, Statement
from benchmarks.support.results import ROOT

PAGE = ROOT / "docs" / "performance" / "plans.md"
#: Tasks that read a whole table for a reason.
REASONS = {
    "relays.tasks.probe_relays": "each minute a tenth of all relays is due: to read "
    "them all once is cheaper than to look each of them up",
    "billing.tasks.run_reconciliation": "it compares all tenants with Stripe",
}
_HEADER = """\
# Plans of all queries

Written by `python -m benchmarks.queries --write`; do not edit. For each task of the
schedule and each list: the statements that read a table that grows, with the time of
the database and the plan as PostgreSQL executed it, outermost node first. In brackets:
the rows that a node kept, and those it read if these are more.
"""
_MAX_PLAN = 400


def print_faults(places: Sequence[Place], limits: Limits) -> None:
    """Print each statement that reads too much."""
    for place in places:
        for statement, fault in _faults(place, limits):
            print(f"{place.name}: {fault}\n    {statement.summary}\n", flush=True)
            print(f"    {statement.shape[:1000]}\n", flush=True)


def count_faults(places: Sequence[Place], limits: Limits) -> int:
    """Return the number of different statements that read too much."""
    return len({each.shape for place in places for each, _ in _faults(place, limits)})


def write(places: Sequence[Place], limits: Limits) -> None:
    """Write the page of all plans."""
    lines = [_HEADER]
    titles = {"task": "Tasks", "admin": "Lists of the admin", "api": "Lists of the API"}
    for kind, title in titles.items():
        lines += [f"## {title}\n", "| | ms | plan |", "|---|---:|---|"]
        for place in places:
            if place.kind == kind:
                lines += _rows(place, limits)
        lines.append("")
    reasons = (f"- `{name}`: {reason}." for name, reason in REASONS.items())
    lines += ["## Whole tables, on purpose\n", *reasons, ""]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines))


def _faults(place: Place, limits: Limits) -> Iterator[tuple[Statement, str]]:
    if place.name not in REASONS:
        for statement in place.statements:
            yield from ((statement, fault) for fault in statement.faults(limits))


def _rows(place: Place, limits: Limits) -> Iterator[str]:
    """Yield a line for each different statement, those of a list's rows first."""
    name, known = place.name, set()
    for each in place.statements:
        reads = limits.growing & {scan.table for scan in each.scans}
        if reads and each.shape not in known:
            known.add(each.shape)
            plan = each.summary
            if len(plan) > _MAX_PLAN:
                plan = f"{plan[:_MAX_PLAN]} …"
            yield f"| {name} | {each.milliseconds:,.1f} | {plan.replace('|', '/')} |"
            name = ""
