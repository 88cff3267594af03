"""The rate at which subscriptions are listed from Stripe."""

import pytest

from billing.services.reconciliation.listing import pages_per_second


@pytest.mark.parametrize(("allowed", "pages"), [(4, 3), (20, 15), (100, 20)])
def test_list_leaves_requests_to_others_and_respects_the_limit_of_an_endpoint(
    settings, allowed, pages
):
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = allowed

    assert pages_per_second() == pages
