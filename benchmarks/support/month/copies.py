"""Copies of what one tenant has at Stripe and in the database.

Creating thousands of tenants one after the other would take longer than what is to be
measured.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import models

from caravel.core.db.encrypted_text import EncryptedTextField
from sandbox.common.http import dump_json
from sandbox.stripe.app import StripeApp

#: Ids of objects in Stripe's form.
_ID = re.compile(r"\b[a-z]{2,5}_[A-Za-z0-9]{14,}\b")
#: Letters at the end of an id that the number of the copy replaces.
_WIDTH = 6
_ROWS_PER_INSERT = 500

#: Replaces the template's ids in a text by those of a copy.
Rename = Callable[[str], str]


class Template:
    """Records of one tenant at Stripe: all since the one with the number `first`."""

    def __init__(self, app: StripeApp, first: int, pubkey: str) -> None:
        rows, _ = app.store.dump()
        self._rows = [row for row in rows if row.seq >= first and _is_copied(row.kind)]
        own = {row.id for row in self._rows}
        older = {row.id for row in rows} - own
        text = dump_json([row.record for row in self._rows])
        self._ids = sorted({*_ID.findall(text), *own} - older)
        self._pubkey = pubkey
        pattern = "|".join(map(re.escape, [*self._ids, pubkey]))
        self._pattern = re.compile(pattern)

    def rename(self, number: int, pubkey: str) -> Rename:
        """Return the function that gives a copy its own ids."""
        names = {id: f"{id[:-_WIDTH]}{number:0{_WIDTH}d}" for id in self._ids}
        names[self._pubkey] = pubkey
        return lambda text: self._pattern.sub(lambda found: names[found.group()], text)

    def put_copies(self, app: StripeApp, renames: Sequence[Rename]) -> None:
        """Add a copy of each record to the account."""
        with app.lock:
            for row in self._rows:
                text = dump_json(row.record)
                for rename in renames:
                    app.store.put(row.kind, json.loads(rename(text)))
            app.store.commit()


def _is_copied(kind: str) -> bool:
    return kind != "event" and not kind.startswith("_")


def copy_rows(
    rows: Sequence[models.Model],
    renames: Sequence[Rename],
    change: Callable[[models.Model, int], None] = lambda row, number: None,
) -> None:
    """Insert copies of a table's rows; `change` gets each, and its copy's number."""
    model = type(rows[0])
    copies = list(_copies(rows, renames, change))
    model._default_manager.bulk_create(copies, batch_size=_ROWS_PER_INSERT)


def _copies(
    rows: Sequence[models.Model],
    renames: Sequence[Rename],
    change: Callable[[models.Model, int], None],
) -> Iterator[models.Model]:
    for row in rows:
        for number, rename in enumerate(renames):
            columns = {
                field.attname: _copy(field, getattr(row, field.attname), rename)
                for field in row._meta.concrete_fields
                if not isinstance(field, models.AutoField | models.GeneratedField)
            }
            copied = type(row)(**columns)
            change(copied, number)
            yield copied


def _copy(field: models.Field[Any, Any], value: Any, rename: Rename) -> Any:
    if isinstance(field, EncryptedTextField):
        return value.reveal() if value else ""
    if isinstance(field, models.JSONField):
        return json.loads(rename(json.dumps(value)))
    return rename(value) if isinstance(value, str) else value


def changes_of(app: StripeApp) -> int:
    """Return the number of the next record that is added to the account."""
    return app.store.written + 1
