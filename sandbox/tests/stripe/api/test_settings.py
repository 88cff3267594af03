"""Account settings: defaults, changes, validation and persistence."""

import pytest
import requests

from sandbox.common.fields import BadField
from sandbox.stripe.app import StripeApp
from sandbox.stripe.settings import AccountSettings


@pytest.fixture
def url(stripe_sandbox):
    return f"{stripe_sandbox.url}/_sandbox/settings"


def test_default_account_settings_are_those_of_stripe(url):
    assert requests.get(url, timeout=60).json() == {
        "after_last_retry": "past_due",
        "overdue_after_days": None,
        "bank_debit_days": 4,
        "out_of_band_payments": "unlisted",
        "paused_invoices": "at_once",
        "after_dispute": "nothing",
        "canceled_prorations": "deleted",
        "credit_uncollectible": "refused",
        "credit_note_taxes": "proportional",
        "tax_rounding": "item",
        "latency": 0,
        "rate_limit": None,
        "keep_events": 10_000,
        "keep_answers": 10_000,
    }


def test_changing_an_account_setting_keeps_the_others(url, stripe_sandbox):
    requests.post(url, json={"after_last_retry": "unpaid"}, timeout=60)
    changed = requests.post(url, json={"overdue_after_days": 3}, timeout=60).json()

    assert changed["after_last_retry"] == "unpaid"
    assert stripe_sandbox.settings().overdue_after_days == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"after_last_retry": "forgive"},
        {"retry_after_days": [3]},
        {"overdue_after_days": "3"},
        {"bank_debit_days": 366},
        {"canceled_prorations": True},
        {"credit_uncollectible": True},
        {"after_dispute": "forgive"},
        {"out_of_band_payments": "listed"},
        {"latency": -1},
        {"rate_limit": 0},
        {"rate_limit": True},
        {"keep_events": 0},
        {"keep_answers": None},
        {"color": "red"},
    ],
)
def test_invalid_account_setting_is_rejected(url, stripe_sandbox, changes):
    response = requests.post(url, json=changes, timeout=60)

    assert response.status_code == 400
    assert next(iter(changes)) in response.json()["error"]
    assert stripe_sandbox.settings() == AccountSettings()


def test_account_settings_survive_a_restart_but_not_a_reset(tmp_path):
    app = StripeApp(state=tmp_path / "state.sqlite")
    app.change_settings({"overdue_after_days": 3})
    app.close()

    restarted = StripeApp(state=tmp_path / "state.sqlite")
    restored = restarted.change_settings({})
    restarted.reset()

    assert restored == AccountSettings(overdue_after_days=3)
    assert restarted.change_settings({}) == AccountSettings()
    restarted.close()


def test_invalid_account_setting_discards_valid_changes_of_the_same_request():
    app = StripeApp()

    with pytest.raises(BadField):
        app.change_settings({"latency": 1, "rate_limit": 0})

    assert app.change_settings({}) == AccountSettings()


def test_only_the_newest_events_and_idempotent_responses_are_kept(api, stripe_sandbox):
    stripe_sandbox.settings(keep_events=5, keep_answers=3)
    created = [
        api.v1.customers.create({"name": str(number)}, {"idempotency_key": str(number)})
        for number in range(20)
    ]

    names = [event.data.object.name for event in api.v1.events.list().data]

    assert names == ["19", "18", "17", "16", "15"]
    assert stripe_sandbox.app.store.count("_answer") <= 4
    restarted = api.v1.customers.create({"name": "19"}, {"idempotency_key": "19"})
    assert restarted.id == created[-1].id


def test_undelivered_events_above_keep_events_are_kept(api, stripe_sandbox):
    stripe_sandbox.pause_webhooks()
    api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:1/", "enabled_events": ["*"]}
    )
    stripe_sandbox.settings(keep_events=2)

    for number in range(6):
        api.v1.customers.create({"name": str(number)})

    assert len(api.v1.events.list().data) == 6
