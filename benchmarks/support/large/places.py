"""Places of the product that send statements: what is run, and what it sent."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.support.large.plans import Statement
from benchmarks.support.large.recorder import pop_statements


@dataclass(frozen=True)
class Place:
    """One run of a task, or one request of a list."""

    kind: str
    name: str
    statements: list[Statement] = field(repr=False)
    #: Error that ended it, such as that of a server that is not there.
    error: str = ""

    @property
    def milliseconds(self) -> float:
        return sum(each.milliseconds for each in self.statements)


def run(kind: str, name: str, call: Callable[[], object]) -> Place:
    """Run a part of the product, and return its statements.

    It may fail for want of a wallet, a relay or Stripe, but not in the database.
    """
    from django.db import DatabaseError

    pop_statements()
    error = ""
    try:
        call()
    except DatabaseError:
        raise
    except Exception as exc:
        error = type(exc).__name__
    return Place(kind, name, pop_statements(), error)
