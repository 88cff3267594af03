"""Fixtures for the tests of the relay."""

from collections.abc import Iterator

import pytest

from sandbox.nostr import SandboxRelay
from sandbox.tests.support.nostr_fixtures import relay
from sandbox.tests.support.relay_client import Client, connected

__all__ = ["relay"]


@pytest.fixture
def client(relay: SandboxRelay) -> Iterator[Client]:
    with connected(relay.url) as client:
        yield client
