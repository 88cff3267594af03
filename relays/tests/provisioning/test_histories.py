"""Random histories, in the end of which every relay is served as configured."""

import pytest
from django.utils import timezone

from caravel.tests.support.search import examples
from relays.clients.zooid import request
from relays.tests.support.histories import TIMEOUT, History

pytestmark = pytest.mark.django_db


@pytest.mark.search
@pytest.mark.parametrize("seed", range(examples(50)))
def test_every_relay_converges_without_needless_reloads(
    provisioning, monkeypatch, seed
):
    monkeypatch.setattr(request, "TIMEOUT", TIMEOUT)
    history = History(seed, provisioning.zooid, monkeypatch, timezone.now())

    history.run(steps=30)

    assert history.check() == []
    assert history.changes > 3
