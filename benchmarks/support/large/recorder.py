"""Records each statement of this process with the plan that PostgreSQL executed.

The module auto_explain reports the plans, so nothing is executed twice:
https://www.postgresql.org/docs/current/auto-explain.html
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from django.db.backends.signals import connection_created

from benchmarks.support.large.plans import Statement

_SETUP = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
SET client_min_messages = notice;
"""
#: For few rows reading all is cheaper; then the plan does not show a missing index.
_PREFER_INDEXES = "SET enable_seqscan = off"
_statements: list[Statement] = []


@contextmanager
def installed(*, prefer_indexes: bool) -> Iterator[None]:
    """Record on all connections from now on."""

    def set_up(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SETUP)
            if prefer_indexes:
                cursor.execute(_PREFER_INDEXES)
        connection.connection.add_notice_handler(_read)

    connection.close()
    connection_created.connect(set_up, weak=False)
    try:
        yield
    finally:
        connection_created.disconnect(set_up)
        connection.close()


def pop_statements() -> list[Statement]:
    """Return the statements since the last call."""
    found = list(_statements)
    _statements.clear()
    return found


def _read(diagnostic: psycopg.errors.Diagnostic) -> None:
    duration, found, plan = (diagnostic.message_primary or "").partition("plan:\n")
    if found:
        parsed = json.loads(plan)
        milliseconds = float(duration.removeprefix("duration: ").partition(" ")[0])
        _statements.append(
            Statement(parsed["Query Text"], milliseconds, parsed["Plan"])
        )
