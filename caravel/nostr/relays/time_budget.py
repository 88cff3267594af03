"""A relay's share of the event loop's time, which all relays use."""

import time

#: Share of the event loop's time for one relay's messages, seconds that it may use in
#: one burst, and the fixed cost of a message in seconds.
_TIME_SHARE, _BURST, _MESSAGE_COST = 0.2, 1.0, 0.00005


class TimeBudget:
    """Time that one relay's messages have used: a leaky bucket."""

    def __init__(self) -> None:
        #: Used time in seconds, and when it was last updated.
        self._used, self._updated_at = 0.0, 0.0

    def charge(self, seconds: float) -> float:
        """Add a message's time; return how many seconds to read nothing.

        Meanwhile the relay's messages wait in its own socket.
        """
        now = time.monotonic()
        leaked = (now - self._updated_at) * _TIME_SHARE
        self._used = max(0.0, self._used - leaked) + seconds + _MESSAGE_COST
        self._updated_at = now
        return max(0.0, (self._used - _BURST) / _TIME_SHARE)
