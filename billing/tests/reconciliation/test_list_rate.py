"""The rate at which subscriptions are listed from Stripe."""

import pytest

from billing.clients.stripe.rate_limit import Share
from billing.services.reconciliation.listing import pages_per_second


@pytest.mark.parametrize(("allowed", "pages"), [(4, 2), (20, 10), (100, 20)])
def test_list_leaves_requests_to_others_and_respects_the_limit_of_an_endpoint(
    settings, allowed, pages
):
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = allowed

    assert pages_per_second() == pages


def test_list_leaves_a_third_of_the_background_s_requests_to_payments(settings):
    background = settings.STRIPE_MAX_REQUESTS_PER_SECOND * Share.BACKGROUND.value

    assert pages_per_second() <= background * 2 / 3
