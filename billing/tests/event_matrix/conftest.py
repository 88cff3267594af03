from collections.abc import Iterator

import pytest

from billing.tests.support.event_matrix.arrange import (
    SavedSetups,
    issue_bolt11,
    own_wallet_url,
)
from billing.tests.support.event_matrix.fake_worker import FakeWorker
from lightning.clients.nwc import Wallet


@pytest.fixture(scope="session")
def saved_setups() -> SavedSetups:
    return {}


@pytest.fixture
def worker(sandbox, rates, settings, monkeypatch) -> Iterator[FakeWorker]:
    settings.ROBOT_WALLETS = [own_wallet_url()]
    monkeypatch.setattr(Wallet, "make_invoice", issue_bolt11)
    worker = FakeWorker()
    with worker.installed():
        yield worker
