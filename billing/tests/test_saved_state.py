"""States that are built once per module, in a module that takes long."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[3, 0, -3])
def _other_time(request, _saved_invoice):
    """A time at which Stripe would have finalized the draft of the saved state."""
    with time_machine.travel(timezone.now() + timedelta(hours=request.param)):
        yield


def test_saved_invoice_is_young_at_any_time_of_a_test(_other_time, invoice):
    age = timezone.now() - invoice.created_at

    assert timedelta(seconds=-1) < age < timedelta(hours=1)
