"""Indexes and unique columns that cost other writers nothing."""

from django.db import models


def unusual(field: str, usual: object, name: str) -> models.Index:
    """Return an index of the rows in which a column has another than its usual value.

    Few rows are in it, so that it costs nearly nothing to write. A list of the usual
    value needs none: whatever its order, the first rows have it.
    """
    return models.Index(
        fields=[field], name=name, condition=~models.Q(**{field: usual})
    )


def unique_reference(field: str, name: str) -> models.UniqueConstraint:
    """Return the constraint that no two rows name the same object elsewhere.

    Unlike `unique=True` it leaves NULL out, and so is partial. PostgreSQL takes every
    other unique column for a possible target of a foreign key: who changes it locks the
    row against each transaction that adds a row with a key to it, until the end of
    both. So two of them can wait for each other:
    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
    """
    return models.UniqueConstraint(
        fields=[field],
        condition=models.Q((f"{field}__isnull", False)),
        name=name,
        violation_error_message="Another one has this id.",
    )
