"""Validation of user input before it is saved."""

from collections.abc import Iterable

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from caravel.core.exceptions import Invalid


def validate_fields(instance: models.Model, names: Iterable[str]) -> None:
    """Validate the named fields of an instance: type, length, format, characters.

    Raises Invalid with the code `<field>-invalid` for the first invalid field.
    """
    for name in names:
        reject_coercible(instance, name)
    others = {field.name for field in instance._meta.fields} - {*names}
    try:
        instance.clean_fields(exclude=others)
    except ValidationError as exc:
        raise invalid_field(exc) from exc


def invalid_field(error: ValidationError) -> Invalid:
    """Convert the first error of a ValidationError to Invalid."""
    field, errors = next(iter(error.error_dict.items()))
    message = errors[0].messages[0]
    if field == NON_FIELD_ERRORS:
        return Invalid(message)
    return _invalid(field, message)


def reject_coercible(instance: models.Model, name: str) -> None:
    """Raise Invalid for a value that Django would silently convert to text or bool."""
    value = getattr(instance, name)
    field = instance._meta.get_field(name)
    expected = bool if isinstance(field, models.BooleanField) else str
    if not isinstance(value, expected):
        raise _invalid(name, "This value has the wrong type.")
    if isinstance(value, str) and not _is_storable(value):
        raise _invalid(name, "This text contains characters that cannot be stored.")


def _is_storable(text: str) -> bool:
    # Lone surrogates, which JSON allows, are not UTF-8; PostgreSQL refuses NUL.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _invalid(field: str, message: str) -> Invalid:
    code = f"{field.replace('_', '-')}-invalid"
    return Invalid(f"{field}: {message}", code=code)
