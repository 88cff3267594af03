"""Requests to relays, and a peer that replies to them."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import NoReply, RelayPool
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.nostr import SandboxRelay

CLIENT_KEY, PEER_KEY = generate_secret_key(), generate_secret_key()
REQUEST, REPLY = 23194, 23195


def endpoint_of(relay: SandboxRelay) -> Endpoint:
    return Endpoint(relay.url, private_allowed=True)


def new_request(content: str = "?", *, secret_key: str = CLIENT_KEY) -> Event:
    return sign_event(
        secret_key, kind=REQUEST, content=content, tags=[("p", pubkey_of(PEER_KEY))]
    )


def reply_to(
    event: Event,
    *,
    secret: str = PEER_KEY,
    kind: int = REPLY,
    names: str = "",
    recipients: tuple[str, ...] = (),
) -> Event:
    tags = [("e", names or event.id), *(("p", pubkey) for pubkey in recipients)]
    return sign_event(secret, kind=kind, content=f"re {event.content}", tags=tags)


def start_replying(
    peer_pool: RelayPool,
    relay: SandboxRelay,
    make: Callable[[Event], Event | list[Event]] = reply_to,
    *,
    secret_key: str = "",
) -> None:
    """Let `peer_pool` reply to every request on a relay."""
    executor = ThreadPoolExecutor(1)
    endpoints = [endpoint_of(relay)]

    def reply(event: Event) -> None:
        made = make(event)
        for answer in made if isinstance(made, list) else [made]:
            executor.submit(
                peer_pool.publish,
                endpoints,
                answer,
                timeout=LIMIT,
                secret_key=secret_key,
            )

    filters = [{"kinds": [REQUEST], "#p": [pubkey_of(PEER_KEY)]}]
    peer_pool.listen(endpoints, filters, reply, secret_key=secret_key)
    wait_until(lambda: relay.subscriptions >= 1)


def send_request(
    pool: RelayPool,
    relays: list[SandboxRelay],
    *,
    event: Event | None = None,
    timeout: float = LIMIT,
    **options: Any,
) -> Event:
    return pool.request(
        [endpoint_of(relay) for relay in relays],
        event or new_request(),
        author=pubkey_of(PEER_KEY),
        kind=REPLY,
        timeout=timeout,
        **options,
    )


def closed_ports(count: int) -> list[int]:
    """Return ports on which no server listens."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


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
