"""Copies of the template: rows in PostgreSQL, and records of the sandbox Stripe."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from django.db import connection

from benchmarks.support.reconciliation.names import (
    DIGITS,
    INTERVAL,
    Template,
    rename,
)

#: The tables of a tenant in sync, with the column of its key.
_TABLES = {
    "tenants_tenant": "pubkey",
    "relays_relay": "tenant_id",
    "billing_subscriptionsync": "tenant_id",
    "billing_invoicecollection": "tenant_id",
}
_KINDS = ("customer", "subscription", "invoice")
_COPY = """
    INSERT INTO {table} ({columns}) SELECT {made}
    FROM {table} template, generate_series(%(first)s::bigint, %(last)s) series(nth),
    LATERAL jsonb_populate_record(
        NULL::{table}, {replaced}::jsonb || {changed}
    ) made
    WHERE template.{key} = %(pubkey)s
"""
_COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_name = %s AND is_generated = 'NEVER'
"""
_CREATED = """
    jsonb_build_object(
        'created_at', to_timestamp(%(created)s + nth * %(interval)s)
    )
"""


def add_tenants(template: Template, first: int, last: int) -> None:
    """Copy the template's rows; the last list of subscriptions is forgotten."""
    with connection.cursor() as cursor:
        for table, key in _TABLES.items():
            cursor.execute(_COLUMNS, [table])
            columns = [f'"{name}"' for (name,) in cursor.fetchall()]
            statement = _COPY.format(
                table=table,
                columns=", ".join(columns),
                made=", ".join(f"made.{column}" for column in columns),
                key=key,
                replaced=_replaced(template),
                changed=_CREATED if table == "tenants_tenant" else "'{}'::jsonb",
            )
            values: dict[str, str | int] = {
                "first": first,
                "last": last,
                "pubkey": template.pubkey,
                "created": template.created,
                "interval": INTERVAL,
            }
            cursor.execute(statement, values)
            # Autovacuum would do it soon.
            cursor.execute(f"ANALYZE {table}")
        cursor.execute("TRUNCATE billing_stagedsubscription")


def _replaced(template: Template) -> str:
    """Return the SQL of a template's row as JSON, with the names of a copy."""
    digits = f"lpad(nth::text, {DIGITS}, '0')"
    names = {
        template.pubkey: "lpad(to_hex(nth), 64, '0')",
        template.relay: "md5(nth::text)::uuid::text",
        f'"{template.subdomain}"': "'\"r' || nth || '\"'",
        template.customer: f"'cus_' || {digits}",
        template.subscription: f"'sub_' || {digits}",
        template.invoice: f"'in_' || {digits}",
    }
    text = "to_jsonb(template)::text"
    for old, new in names.items():
        text = f"replace({text}, '{old}', {new})"
    return text


def add_records(template: Template, path: Path, first: int, last: int) -> None:
    """Copy the template's records in a state file, while no sandbox uses it."""
    with closing(sqlite3.connect(path)) as database, database:
        (seq,) = database.execute("SELECT max(seq) FROM records").fetchone()
        rows = _records(template, database, first, last)
        numbered = (
            (*row[:2], seq + place, row[2]) for place, row in enumerate(rows, 1)
        )
        database.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", numbered)


def _records(
    template: Template, database: sqlite3.Connection, first: int, last: int
) -> Iterator[tuple[str, str, str]]:
    ids = (template.customer, template.subscription, template.invoice)
    for kind, id in zip(_KINDS, ids, strict=True):
        query = "SELECT body FROM records WHERE kind = ? AND id = ?"
        (body,) = database.execute(query, (kind, id)).fetchone()
        for number in range(first, last + 1):
            yield kind, template.names(number)[id], rename(template, body, number)
