"""Actions delayed by faults: for some seconds, or until they are released."""

import asyncio
from itertools import count

from sandbox.nostr.faults import Action


class DelayedActions:
    """Waiting actions; use it on the relay's event loop only."""

    def __init__(self) -> None:
        self._held: list[Action] = []
        self._delayed: dict[int, tuple[asyncio.TimerHandle, Action]] = {}
        self._numbers = count()

    @property
    def held(self) -> int:
        """The number of actions that wait to be released."""
        return len(self._held)

    def hold(self, action: Action) -> None:
        """Hold an action until it is released."""
        self._held.append(action)

    def delay(self, seconds: float, action: Action) -> None:
        """Run an action after some seconds of real time."""
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        self._delayed[number] = loop.call_later(seconds, self._run, number), action

    def release(self) -> int:
        """Run the held actions in order; return how many there were."""
        held, self._held = self._held, []
        for action in held:
            action()
        return len(held)

    def finish(self) -> None:
        """Run all waiting actions now."""
        for number, (timer, _) in sorted(self._delayed.items(), key=_due):
            timer.cancel()
            self._run(number)
        self.release()

    def discard(self) -> None:
        """Drop all waiting actions."""
        for timer, _ in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        self._held.clear()

    def _run(self, number: int) -> None:
        _, action = self._delayed.pop(number)
        action()


def _due(item: tuple[int, tuple[asyncio.TimerHandle, Action]]) -> tuple[float, int]:
    number, (timer, _) = item
    return timer.when(), number
