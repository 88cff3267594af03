"""What a step of a collection leads to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.models import InvoiceCollection


@dataclass(frozen=True)
class Wait:
    """Nothing more can be done now: why, and when to look again, None if unknown."""

    state: InvoiceCollection.State
    why: str
    until: datetime | None


class _Again:
    """Something was done: the invoice is to be looked at anew."""


REREAD: Final = _Again()
#: None: the step does not apply.
Step = Wait | _Again | None
