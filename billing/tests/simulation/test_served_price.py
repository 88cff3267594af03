"""Random discounts, taxes, changes and reversals: served time is paid for exactly."""

from random import Random

import pytest

from billing.tests.support.simulation.priced_story import Story
from caravel.tests.support.search import FACTOR, IS_LARGE, examples
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

SEEDS = range(examples(10)) if not IS_LARGE else range(1000, 1000 + 20 * FACTOR)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("prorations", ["deleted", "kept"])
def test_money_and_price_of_the_served_time_add_up(
    sandbox, prices, _saved_tenant, seed, prorations
):
    sandbox.settings(canceled_prorations=prorations)
    tenant = Tenant.objects.get(pk=_saved_tenant.restore())
    story = Story(sandbox, tenant, Random(seed))

    story.run()

    excess = story.money - (story.price - story.gifts)
    assert abs(excess) <= story.tolerance, f"{float(excess):.2f} too much: {story.log}"
