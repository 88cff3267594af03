import pytest

from relays.services.provisioning import sync
from relays.tests.support.provisioning import Provisioning


@pytest.fixture
def provisioning(zooid, settings, monkeypatch, priced_plans, db) -> Provisioning:
    """Caravel and an empty zooid, with the settings of production."""
    settings.BILLING_SERVED_RELAYS_ONLY = True
    monkeypatch.setattr(sync, "pause", lambda seconds: zooid.reload())
    return Provisioning(zooid)
