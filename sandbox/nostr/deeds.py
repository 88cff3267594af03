"""What a relay is about to do, and how faults spoil it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.nostr.faults import Action, Fault
from sandbox.nostr.postponed import DelayedActions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something done, whose result is sent, and what else could be sent instead."""

    produce: Callable[[], str]
    send: Callable[[str], None]
    hang_up: Action
    #: What is said of a reply that was not done: as if it were, that it is refused.
    fake_ok: str = ""
    refusal: str = ""
    #: The result with a wrong signature.
    bad_signature: str = ""

    def finish(self) -> None:
        """Do it and send the result."""
        self.send(self.produce())

    def duplicate(self) -> None:
        """Do it and send the result twice."""
        text = self.produce()
        self.send(text)
        self.send(text)

    def truncate(self) -> None:
        """Do it and send what is left of the result, no JSON any more."""
        text = self.produce()
        self.send(text[: len(text) // 2])

    def fake(self) -> None:
        """Do nothing, and say that it is done if anything is to be said."""
        if self.fake_ok:
            self.send(self.fake_ok)


def send_reply(reply: Reply, fault: Fault | None, delayed: DelayedActions) -> None:
    """Do and answer something as the fault lets it happen."""
    if fault is None:
        reply.finish()
        return
    if fault.when == "after":
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
