"""Indexes of columns that have one usual value in nearly all rows."""

from django.db import models


def unusual(field: str, usual: object, name: str) -> models.Index:
    """Return an index of the rows in which a column has another than its usual value.

    Few rows are in it, so that it costs nearly nothing to write. A list of the usual
    value needs none: whatever its order, the first rows have it.
    """
    return models.Index(
        fields=[field], name=name, condition=~models.Q(**{field: usual})
    )
