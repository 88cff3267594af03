"""Replies of a relay, spoilt or delayed by faults."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.nostr.faults import Action, RelayFault


class DelayedActions:
    """Waiting actions; use it on the relay's event loop only."""

    def __init__(self) -> None:
        #: Actions that wait to be released.
        self.held: list[Action] = []
        self._delayed: dict[asyncio.TimerHandle, Action] = {}

    def delay(self, seconds: float, action: Action) -> None:
        """Run an action after some seconds of real time."""

        def run() -> None:
            del self._delayed[timer]
            action()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._delayed[timer] = action

    def release(self) -> int:
        """Run the held actions in order; return how many there were."""
        held, self.held = self.held, []
        for action in held:
            action()
        return len(held)

    def finish(self) -> None:
        """Run all waiting actions now."""
        timers = sorted(self._delayed, key=asyncio.TimerHandle.when)
        actions = [*(self._delayed[timer] for timer in timers), *self.held]
        self.discard()
        for action in actions:
            action()

    def discard(self) -> None:
        """Drop all waiting actions."""
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        self.held.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Produces and sends a result; holds the messages that faults send instead."""

    produce: Callable[[], str]
    send: Callable[[str], None]
    hang_up: Action
    #: Messages sent without producing anything: a success, a refusal with a reason.
    fake_ok: str = ""
    refusal: Callable[[str], str] = str
    #: The result with a wrong signature.
    bad_signature: str = ""

    def finish(self) -> None:
        """Produce the result and send it."""
        self.send(self.produce())


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
            delayed.held.append(reply.finish)
        case "drop" if reply.fake_ok:
            reply.send(reply.fake_ok)
        case "reject" | "closed":
            reply.send(reply.refusal(fault.reason))
        case "disconnect":
            reply.hang_up()
        case "duplicate":
            text = reply.produce()
            reply.send(text)
            reply.send(text)
        case "garble":
            text = reply.produce()
            reply.send(text[: len(text) // 2])
        case "forge":
            reply.send(reply.bad_signature)
