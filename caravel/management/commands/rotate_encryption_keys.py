from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import models

from caravel.core.db.encrypted_text import EncryptedTextField, Secret, Undecryptable


class Command(BaseCommand):
    help = (
        "Encrypt every stored secret anew with the first of ENCRYPTION_KEYS. "
        "Afterwards the other keys may be dropped."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rotated, stuck = 0, []
        for model, field in _encrypted_fields():
            done, failed = rotate(model, field)
            rotated += done
            stuck += failed
        self.stdout.write(f"{rotated} secrets rotated")
        if stuck:
            raise CommandError(f"No key opens: {', '.join(stuck)}")


def rotate(model: type[models.Model], field: str) -> tuple[int, list[str]]:
    """Rotate one column. Returns how many were rotated, and the rows that no key opens.

    A value that changes meanwhile is left alone: the first key has encrypted it.
    """
    rotated, stuck = 0, []
    rows = model._default_manager.exclude(**{field: ""}).order_by("pk")
    for pk, secret in rows.values_list("pk", field).iterator():
        try:
            fresh: Secret = secret.rotated()
        except Undecryptable:
            stuck.append(f"{model._meta.label} {pk} {field}")
            continue
        rows.filter(pk=pk, **{field: secret}).update(**{field: fresh})
        rotated += 1
    return rotated, stuck


def _encrypted_fields() -> list[tuple[type[models.Model], str]]:
    return [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, EncryptedTextField)
    ]
