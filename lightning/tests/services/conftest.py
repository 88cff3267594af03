"""Fixtures of payment tests: a tenant with a wallet, and a request to pay."""

from unittest.mock import patch

import pytest

from lightning.services import outcomes
from lightning.tests.factories import make_payment_request, tenant_with


@pytest.fixture
def tenant(alice):
    """A tenant that has connected the wallet `alice`."""
    return tenant_with(alice)


@pytest.fixture
def payment_request(tenant):
    return make_payment_request(tenant)


@pytest.fixture
def alerts():
    """The alerts to support when an answer of our wallet is judged."""
    with patch.object(outcomes, "alert_support") as alert:
        yield alert
