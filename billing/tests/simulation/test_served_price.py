"""Random discounts, taxes, changes and reversals: served time is paid for exactly."""

from random import Random

import pytest

from billing.tests.support.simulation.priced_story import Story
from caravel.tests.support.search import examples
from tenants.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("seed", range(examples(8)))
def test_money_and_price_of_the_served_time_add_up(
    sandbox, prices, _saved_tenant, seed
):
    tenant = Tenant.objects.get(pk=_saved_tenant.restore())
    sandbox.settings(canceled_prorations=("deleted", "kept")[seed % 2])
    story = Story(sandbox, tenant, Random(seed))

    story.run()

    excess = story.money - (story.price - story.gifts)
    assert abs(excess) <= story.tolerance, f"{float(excess):.2f} too much: {story.log}"
