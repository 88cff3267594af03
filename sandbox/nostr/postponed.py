"""What faults hold back: for some seconds, or until it is released."""

import asyncio
from itertools import count

from sandbox.nostr.faults import Action


class DelayedActions:
    """Actions that wait; to be used on the relay's loop."""

    def __init__(self) -> None:
        self._held: list[Action] = []
        self._delayed: dict[int, tuple[asyncio.TimerHandle, Action]] = {}
        self._numbers = count()

    @property
    def held(self) -> int:
        """How many wait to be released."""
        return len(self._held)

    def hold(self, action: Action) -> None:
        """Keep an action until it is released."""
        self._held.append(action)

    def delay(self, seconds: float, action: Action) -> None:
        """Run an action after some real seconds."""
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        self._delayed[number] = loop.call_later(seconds, self._run, number), action

    def release(self) -> int:
        """Run what is held, in the order it came; return how many there were."""
        held, self._held = self._held, []
        for action in held:
            action()
        return len(held)

    def finish(self) -> None:
        """Run all that waits, now."""
        for number, (timer, _) in sorted(self._delayed.items(), key=_due):
            timer.cancel()
            self._run(number)
        self.release()

    def discard(self) -> None:
        """Forget all that waits."""
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
