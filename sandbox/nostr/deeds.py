"""What a relay is about to do, and how faults spoil it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.nostr.faults import Action, Fault
from sandbox.nostr.postponed import Postponed


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something done, whose result is sent, and what else could be sent instead."""

    do: Callable[[], str]
    send: Callable[[str], None]
    hang_up: Action
    #: What is said of a deed that was not done: as if it were, that it is refused.
    pretence: str = ""
    refusal: str = ""
    #: The result with a wrong signature.
    forgery: str = ""

    def finish(self) -> None:
        """Do it and send the result."""
        self.send(self.do())

    def duplicate(self) -> None:
        """Do it and send the result twice."""
        text = self.do()
        self.send(text)
        self.send(text)

    def garble(self) -> None:
        """Do it and send what is left of the result, no JSON any more."""
        text = self.do()
        self.send(text[: len(text) // 2])

    def pretend(self) -> None:
        """Do nothing, and say that it is done if anything is to be said."""
        if self.pretence:
            self.send(self.pretence)


def carry_out(deed: Deed, fault: Fault | None, postponed: Postponed) -> None:
    """Do and answer something as the fault lets it happen."""
    if fault is None:
        deed.finish()
        return
    if fault.when == "after":
        result = deed.do()
        deed = replace(deed, do=lambda: result)
    match fault.kind:
        case "delay":
            postponed.delay(fault.seconds, deed.finish)
        case "hold":
            postponed.hold(deed.finish)
        case kind:
            _spoil(deed, kind)


def _spoil(deed: Deed, kind: str) -> None:
    spoilt: dict[str, Action] = {
        "drop": deed.pretend,
        "mute": lambda: None,
        "reject": lambda: deed.send(deed.refusal),
        "closed": lambda: deed.send(deed.refusal),
        "disconnect": deed.hang_up,
        "duplicate": deed.duplicate,
        "garble": deed.garble,
        "forge": lambda: deed.send(deed.forgery),
    }
    spoilt[kind]()
