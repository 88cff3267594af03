"""Foreign relays, each in a script that also records what clients send to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from interop.tests.support.scripts import Script, running_script
from sandbox.common.nostr import Event, parse_event


class ForeignRelay:
    """A relay in a script; it keeps its events until the end of the tests."""

    def __init__(self, script: Script) -> None:
        self.url = str(script.call("url"))
        self._script = script

    def events(self, kind: int | None = None) -> list[Event]:
        """Return the events that clients have sent, in order of arrival."""
        sent = map(parse_event, self._script.call("sent_events"))
        return [event for event in sent if kind in (None, event.kind)]

    def drop_connections(self) -> None:
        """Break all connections; clients may reconnect."""
        self._script.call("drop_connections")


@contextmanager
def foreign_relay(script: str, *arguments: str) -> Iterator[ForeignRelay]:
    """Lend the relay of a script, which starts on first use."""
    running = running_script(script, *arguments)
    running.call("forget_events")
    yield ForeignRelay(running)
