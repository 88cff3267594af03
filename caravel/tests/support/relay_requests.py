"""Requests to relays that get no reply."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.pool import NoReply


def send_in_vain(
    send: Callable[[float], object],
    *,
    timeout: float,
    until: Callable[[], object] = lambda: True,
) -> None:
    """Call `send` with a timeout; expect NoReply.

    It is called again, with a longer timeout, if a busy machine did not send the
    request in time (RelayUnreachable), or if `until` is not true afterwards.
    """
    for factor in (1, 5, 25):
        with suppress(RelayUnreachable):
            with pytest.raises(NoReply):
                send(factor * timeout)
            if until():
                return
    raise AssertionError("the request was not sent, or had no effect")
