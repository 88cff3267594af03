"""The webhook endpoint sends every type that a running installation handles."""

import pytest
from django.core.management import call_command

from billing.services.events.endpoint import complete_own_events, own_url
from billing.services.events.process import EVENT_TYPES
from billing.tasks import (
    check_prices,
    complete_webhook_events,
    reconcile_subscriptions,
)

pytestmark = pytest.mark.django_db


def create_endpoint(sandbox, *events, url=None):
    params = {"url": url or own_url(), "enabled_events": list(events)}
    return sandbox.client().v1.webhook_endpoints.create(params)


def enabled_events(sandbox):
    [endpoint] = sandbox.client().v1.webhook_endpoints.list({}).data
    return set(endpoint.enabled_events)


def test_endpoint_of_an_earlier_version_gets_the_missing_types(sandbox):
    create_endpoint(sandbox, "invoice.paid", "charge.captured")

    complete_webhook_events()

    assert enabled_events(sandbox) == {"charge.captured", *EVENT_TYPES}


def test_endpoint_is_completed_whenever_all_tenants_are_compared(monkeypatch):
    sent = []
    monkeypatch.setattr(complete_webhook_events, "delay", lambda: sent.append(1))

    reconcile_subscriptions()

    assert sent == [1]


@pytest.mark.parametrize("events", [["*"], sorted(EVENT_TYPES)])
def test_complete_endpoint_is_not_changed(sandbox, events):
    create_endpoint(sandbox, *events)
    before = len(sandbox.requests("POST"))

    complete_own_events()

    assert enabled_events(sandbox) == set(events)
    assert len(sandbox.requests("POST")) == before


def test_endpoint_of_another_installation_is_left_alone(sandbox):
    create_endpoint(sandbox, "invoice.paid", url="https://other.example/stripe/webhook")

    complete_own_events()

    assert enabled_events(sandbox) == {"invoice.paid"}


def test_key_that_may_not_read_endpoints_changes_nothing(sandbox, caplog):
    error = {"message": "No permission.", "type": "invalid_request_error"}
    path = "/v1/webhook_endpoints"
    sandbox.fault("status", method="GET", path=path, status=403, error=error)

    complete_own_events()

    assert "webhook_endpoint_unknown" in caplog.text


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize(
    ("task", "path", "event"),
    [
        (complete_webhook_events, "/v1/webhook_endpoints", "webhook_endpoint_unknown"),
        (check_prices, "/v1/prices", "prices_not_checked"),
    ],
)
def test_hourly_check_of_the_account_waits_for_stripe(
    sandbox, prices, caplog, task, path, event, status
):
    sandbox.fault("status", method="GET", path=f"{path}*", status=status, times=None)

    task()

    assert event in caplog.text


def test_setup_completes_the_endpoint_that_it_is_given(sandbox):
    url = "https://caravel.example/stripe/webhook"
    create_endpoint(sandbox, "invoice.paid", url=url)

    call_command("stripe_setup", "--webhook-url", url, verbosity=0)

    assert enabled_events(sandbox) == set(EVENT_TYPES)
