"""Replies of a relay, spoilt or delayed by faults."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.nostr.faults import Action, RelayFault


class DelayedActions:
    """Waiting actions; use it on the relay's event loop only."""

    def __init__(self) -> None:
        self._held: list[Action] = []
        self._delayed: dict[asyncio.TimerHandle, Action] = {}

    @property
    def held(self) -> int:
        """The number of actions that wait to be released."""
        return len(self._held)

    def hold(self, action: Action) -> None:
        """Hold an action until it is released."""
        self._held.append(action)

    def delay(self, seconds: float, action: Action) -> None:
        """Run an action after some seconds of real time."""

        def run() -> None:
            del self._delayed[timer]
            action()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._delayed[timer] = action

    def release(self) -> int:
        """Run the held actions in order; return how many there were."""
        held, self._held = self._held, []
        for action in held:
            action()
        return len(held)

    def finish(self) -> None:
        """Run all waiting actions now."""
        delayed = sorted(self._delayed.items(), key=lambda item: item[0].when())
        for timer, _ in delayed:
            timer.cancel()
        self._delayed.clear()
        for _, action in delayed:
            action()
        self.release()

    def discard(self) -> None:
        """Drop all waiting actions."""
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        self._held.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Produces and sends a result; holds the messages that faults send instead."""

    produce: Callable[[], str]
    send: Callable[[str], None]
    hang_up: Action
    #: Messages sent without producing anything: a success, a refusal.
    fake_ok: str = ""
    refusal: str = ""
    #: The result with a wrong signature.
    bad_signature: str = ""

    def finish(self, *, copies: int = 1) -> None:
        """Produce the result and send it."""
        text = self.produce()
        for _ in range(copies):
            self.send(text)

    def truncate(self) -> None:
        """Produce the result and send half of it, which is not valid JSON."""
        text = self.produce()
        self.send(text[: len(text) // 2])


def send_reply(reply: Reply, fault: RelayFault | None, delayed: DelayedActions) -> None:
    """Produce and send a reply, altered by the fault if there is one."""
    if fault is None:
        reply.finish()
        return
    if fault.when == "after":
        # Produced now, so that the fault affects only the sending.
        result = reply.produce()
        reply = replace(reply, produce=lambda: result)
    _apply_fault(fault, reply, delayed)


def _apply_fault(fault: RelayFault, reply: Reply, delayed: DelayedActions) -> None:
    match fault.kind:
        case "delay":
            delayed.delay(fault.seconds, reply.finish)
        case "hold":
            delayed.hold(reply.finish)
        case "drop" if reply.fake_ok:
            reply.send(reply.fake_ok)
        case "reject" | "closed":
            reply.send(reply.refusal)
        case "disconnect":
            reply.hang_up()
        case "duplicate":
            reply.finish(copies=2)
        case "garble":
            reply.truncate()
        case "forge":
            reply.send(reply.bad_signature)
