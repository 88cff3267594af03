"""Paused collection, held drafts and archived prices on the dashboard."""

import pytest
import requests

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.web import part, words


@pytest.fixture
def act(stripe_sandbox):
    """Function that posts a form of the dashboard and returns the status."""

    def act(action, **form):
        url = f"{stripe_sandbox.url}/_pages/{action}"
        headers = {"Origin": stripe_sandbox.url}
        answer = requests.post(
            url, data=form, headers=headers, allow_redirects=False, timeout=60
        )
        return answer.status_code

    return act


def section(sandbox, name):
    return words(part(requests.get(sandbox.url, timeout=60).text, name))


def object_page(sandbox, id):
    return words(requests.get(f"{sandbox.url}/?id={id}", timeout=60).text)


def test_collection_is_paused_and_resumed_on_the_dashboard(api, stripe_sandbox, act):
    subscription = builders.subscription(api)
    buttons = object_page(stripe_sandbox, subscription.id)

    act("pause-collection", id=subscription.id, outcome="void")
    paused = section(stripe_sandbox, "subscriptions")
    act("pause-collection", id=subscription.id)

    assert "Pause collection: keep drafts" in buttons
    assert "collection paused: void" in paused
    assert "collection paused" not in section(stripe_sandbox, "subscriptions")


def test_draft_is_held_and_released_on_the_dashboard(api, stripe_sandbox, act):
    draft = builders.subscription(api).latest_invoice
    before = section(stripe_sandbox, "invoices")

    act("hold", id=draft, outcome="hold")
    held = section(stripe_sandbox, "invoices")
    act("hold", id=draft)

    assert "finalizes" in before
    assert "held" in held
    assert api.v1.invoices.retrieve(draft).auto_advance


def test_refused_finalization_is_shown(api, stripe_sandbox):
    payer = builders.customer(
        api, metadata={"sandbox_finalization": "customer_tax_location_invalid"}
    )
    builders.subscription(api, to=payer)

    stripe_sandbox.advance(builders.HOUR)

    shown = section(stripe_sandbox, "invoices")
    assert "not finalized: customer tax location invalid" in shown


def test_price_is_archived_on_its_page(api, stripe_sandbox, act):
    price = builders.price(api)

    statuses = [act("archive", id=price.id, outcome="archive"), act("archive", id="x")]

    assert statuses == [303, 400]
    assert "Make the price active" in object_page(stripe_sandbox, price.id)
