"""Fair shares of an event loop's time: relays take turns, the least greedy one first.

All relays of a pool together get a part of a CPU. When it is used up, the others wait,
but a relay that has hardly used any time does not: so an honest relay is not delayed by
those that send as much as they can.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable

#: Seconds of CPU time: of all relays in one burst, of one relay in one turn, and of one
#: relay for which it never waits.
_BURST, TURN, _ALLOWANCE = 0.2, 0.001, 0.005
#: Seconds after which about a third of a relay's used time is remembered.
_MEMORY = 10.0


class TimeShare:
    """The part of a CPU that all relays of a pool share: a leaky bucket."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._used, self._updated_at = 0.0, 0.0
        #: Relays that wait for a turn, by their used time.
        self._waiting: list[tuple[float, int, RelayTime]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_free(self) -> bool:
        """True if a relay can be served without waiting."""
        return not self._waiting and not self._pause()

    def charge(self, seconds: float) -> None:
        """Add used time."""
        now = time.monotonic()
        leaked = (now - self._updated_at) * self._share
        self._used = max(0.0, self._used - leaked) + seconds
        self._updated_at = now

    def enqueue(self, relay: "RelayTime") -> None:
        """Give the relay a turn as soon as possible."""
        heapq.heappush(self._waiting, (relay.used, next(self._numbers), relay))
        self._schedule()

    def _pause(self) -> float:
        """Return the seconds until the bucket has room."""
        self.charge(0.0)
        return max(0.0, (self._used - _BURST) / self._share)

    def _next_pause(self) -> float:
        return 0.0 if self._waiting[0][0] < _ALLOWANCE else self._pause()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._next_pause(), self._give_turn)

    def _give_turn(self) -> None:
        try:
            # Messages that were read meanwhile may have used more time.
            if not self._next_pause():
                _, _, relay = heapq.heappop(self._waiting)
                relay.take_turn()
        finally:  # a relay that fails must not end the turns of the others
            self._schedule()


class RelayTime:
    """One relay's use of a `TimeShare`, and its work that waits for a turn."""

    def __init__(self, share: TimeShare) -> None:
        self._share = share
        self._used, self._updated_at = 0.0, 0.0
        self._used_in_turn = 0.0
        self._work: deque[Callable[[], None]] = deque()
        self._is_enqueued = False

    @property
    def used(self) -> float:
        """The relay's CPU time, of which old use is forgotten."""
        age = time.monotonic() - self._updated_at
        return self._used * math.exp(-age / _MEMORY)

    def forget(self) -> None:
        """Forget the use of a relay that has just delivered a reply.

        One relay that many wallets use thus does not count as greedy.
        """
        self._used = 0.0

    def charge(self, seconds: float) -> None:
        """Add used CPU time."""
        self._used, self._updated_at = self.used + seconds, time.monotonic()
        self._used_in_turn += seconds
        self._share.charge(seconds)

    async def spend(self, seconds: float) -> None:
        """Add used CPU time; when the turn is over, wait for the next one."""
        self.charge(seconds)
        if self._used_in_turn < TURN:
            return
        turn = asyncio.get_running_loop().create_future()
        # Before the relay's bytes: what is read is handled before more is read.
        self._work.appendleft(lambda: None if turn.done() else turn.set_result(None))
        self._enqueue()
        await turn

    def run(self, work: Callable[[], None]) -> None:
        """Do this work at once if no relay waits, else in one of the relay's turns."""
        if self._share.is_free and not self._work:
            self._used_in_turn = 0.0
            work()
        else:
            self.run_later(work)

    def run_later(self, work: Callable[[], None]) -> None:
        """Do this work in one of the relay's turns."""
        self._work.append(work)
        self._enqueue()

    def take_turn(self) -> None:
        """Do the first work that waits."""
        self._is_enqueued = False
        self._used_in_turn = 0.0
        try:
            self._work.popleft()()
        finally:
            self._enqueue()

    def _enqueue(self) -> None:
        if self._work and not self._is_enqueued:
            self._is_enqueued = True
            self._share.enqueue(self)
