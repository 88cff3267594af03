"""Checking what people give before it meets the database."""

from collections.abc import Iterable

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from caravel.core.exceptions import Invalid


def validate_fields(instance: models.Model, names: Iterable[str]) -> None:
    """Check the named fields of an instance.

    Raises Invalid with the code `<field>-invalid` for the first that is wrong: its
    type, its length, its form, or text that no database or screen can hold.
    """
    for name in names:
        reject_coercible(instance, name)
    others = {field.name for field in instance._meta.fields} - {*names}
    try:
        instance.clean_fields(exclude=others)
    except ValidationError as exc:
        raise invalid_field(exc) from exc


def invalid_field(error: ValidationError) -> Invalid:
    """Return our error for the first thing that a validator found."""
    field, errors = next(iter(error.error_dict.items()))
    sentence = errors[0].messages[0]
    if field == NON_FIELD_ERRORS:
        return Invalid(sentence)
    return _invalid(field, sentence)


def reject_coercible(instance: models.Model, name: str) -> None:
    """Raise Invalid for what Django would turn into text or into a truth value."""
    value = getattr(instance, name)
    field = instance._meta.get_field(name)
    wanted = bool if isinstance(field, models.BooleanField) else str
    if not isinstance(value, wanted):
        raise _invalid(name, "This value is of the wrong type.")
    if isinstance(value, str) and not _is_storable(value):
        raise _invalid(name, "This text has characters that cannot be stored.")


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _invalid(field: str, sentence: str) -> Invalid:
    code = f"{field.replace('_', '-')}-invalid"
    return Invalid(f"{field}: {sentence}", code=code)
