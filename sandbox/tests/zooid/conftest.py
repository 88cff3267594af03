from collections.abc import Iterator

import pytest

from sandbox.common.nostr import pubkey_of
from sandbox.tests.support.zooid import KEY
from sandbox.zooid import Zooid, running_zooid


@pytest.fixture
def zooid() -> Iterator[Zooid]:
    """A sandbox zooid that KEY manages."""
    with running_zooid(whitelist=[pubkey_of(KEY)]) as zooid:
        yield zooid
