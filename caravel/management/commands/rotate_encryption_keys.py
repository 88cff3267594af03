from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import models

from caravel.core.db.encrypted_text import EncryptedTextField, Secret, Undecryptable


class Command(BaseCommand):
    help = (
        "Re-encrypt every stored secret with the first of ENCRYPTION_KEYS. "
        "The other keys can be removed afterwards."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rotated, undecryptable = 0, []
        for model, field in _encrypted_fields():
            count, failed = rotate(model, field)
            rotated += count
            undecryptable += failed
        self.stdout.write(f"{rotated} secrets rotated")
        if undecryptable:
            raise CommandError(f"No key decrypts: {', '.join(undecryptable)}")


def rotate(model: type[models.Model], field: str) -> tuple[int, list[str]]:
    """Rotate one column.

    Returns the number of rotated values, and the rows that no key decrypts.
    """
    rotated, undecryptable = 0, []
    rows = model._default_manager.exclude(**{field: ""}).order_by("pk")
    for pk, secret in rows.values_list("pk", field).iterator():
        try:
            fresh: Secret = secret.rotated()
        except Undecryptable:
            undecryptable.append(f"{model._meta.label} {pk} {field}")
            continue
        # Compare and set: a value that was saved meanwhile already uses the first key.
        rows.filter(pk=pk, **{field: secret}).update(**{field: fresh})
        rotated += 1
    return rotated, undecryptable


def _encrypted_fields() -> list[tuple[type[models.Model], str]]:
    return [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, EncryptedTextField)
    ]
