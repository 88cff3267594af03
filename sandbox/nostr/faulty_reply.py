"""Replies of a relay, and the faults that spoil them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.nostr.delayed_actions import DelayedActions
from sandbox.nostr.faults import Action, RelayFault


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

    def finish(self) -> None:
        """Produce the result and send it."""
        self.send(self.produce())

    def duplicate(self) -> None:
        """Produce the result and send it twice."""
        text = self.produce()
        self.send(text)
        self.send(text)

    def truncate(self) -> None:
        """Produce the result and send half of it, which is not valid JSON."""
        text = self.produce()
        self.send(text[: len(text) // 2])

    def fake(self) -> None:
        """Send the success message, if there is one, without producing anything."""
        if self.fake_ok:
            self.send(self.fake_ok)


def send_reply(reply: Reply, fault: RelayFault | None, delayed: DelayedActions) -> None:
    """Produce and send a reply, altered by the fault if there is one."""
    if fault is None:
        reply.finish()
        return
    if fault.when == "after":
        # Produced now, so that the fault affects only the sending.
        result = reply.produce()
        reply = replace(reply, produce=lambda: result)
    match fault.kind:
        case "delay":
            delayed.delay(fault.seconds, reply.finish)
        case "hold":
            delayed.hold(reply.finish)
        case kind:
            _apply_fault(reply, kind)


def _apply_fault(reply: Reply, kind: str) -> None:
    actions: dict[str, Action] = {
        "drop": reply.fake,
        "mute": lambda: None,
        "reject": lambda: reply.send(reply.refusal),
        "closed": lambda: reply.send(reply.refusal),
        "disconnect": reply.hang_up,
        "duplicate": reply.duplicate,
        "garble": reply.truncate,
        "forge": lambda: reply.send(reply.bad_signature),
    }
    actions[kind]()
