"""Stripe's list of events: https://docs.stripe.com/api/events/list."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from billing.clients.stripe.transport import StripeTransport, v1

#: The list has the events of this many days.
MAX_DAYS = 30
#: Maximum number of types in one request.
_MAX_TYPES = 20


class Events:
    """Calls on events."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        types: Sequence[str],
        created: Mapping[str, int],
        undelivered: bool = False,
    ) -> Iterator[str]:
        """Yield events as JSON, newest first for each twenty types.

        Stripe renders each in the API version of its creation. `undelivered`: only
        those that at least one endpoint has not acknowledged.
        """
        filters: dict[str, Any] = {"created": dict(created), "limit": 100}
        if undelivered:
            filters["delivery_success"] = False
        for first in range(0, len(types), _MAX_TYPES):
            yield from self._transport.paginate(
                lambda params: v1().events.list(params),
                cast(Any, {**filters, "types": [*types[first : first + _MAX_TYPES]]}),
                _read_json,
            )


def _read_json(event: Any) -> str:
    return json.dumps(event.to_dict(for_json=True))
