import pytest

from caravel.nostr.relays.limits import STRANGERS
from caravel.nostr.relays.pool import RelayPool
from sandbox.nostr import running_relay


@pytest.fixture
def relay():
    with running_relay() as relay:
        yield relay


@pytest.fixture
def pool():
    pool = RelayPool()
    yield pool
    pool.close()


@pytest.fixture
def strangers():
    """Return a pool for relays of strangers."""
    pool = RelayPool(STRANGERS)
    yield pool
    pool.close()


@pytest.fixture
def peer_pool():
    peer_pool = RelayPool()
    yield peer_pool
    peer_pool.close()
