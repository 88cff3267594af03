"""What the account is set to: read, changed, refused, kept."""

import pytest
import requests

from sandbox.stripe.app import StripeApp
from sandbox.stripe.settings import AccountSettings, BadSetting


@pytest.fixture
def url(stripe_sandbox):
    return f"{stripe_sandbox.url}/_sandbox/settings"


def test_an_account_starts_as_stripe_sets_one_up(url):
    assert requests.get(url, timeout=5).json() == {
        "after_last_retry": "past_due",
        "retry_after_days": [3, 5, 7],
        "overdue_after_days": None,
        "latency": 0,
        "rate_limit": None,
        "keep_events": 10_000,
        "keep_answers": 10_000,
    }


def test_some_settings_are_changed_and_the_others_kept(url, stripe_sandbox):
    requests.post(url, json={"after_last_retry": "unpaid"}, timeout=5)
    changed = requests.post(url, json={"retry_after_days": [1, 2]}, timeout=5).json()

    assert changed["after_last_retry"] == "unpaid"
    assert stripe_sandbox.settings().retry_after_days == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"after_last_retry": "forgive"},
        {"retry_after_days": 3},
        {"retry_after_days": [0]},
        {"overdue_after_days": "3"},
        {"latency": -1},
        {"rate_limit": 0},
        {"rate_limit": True},
        {"keep_events": 0},
        {"keep_answers": None},
        {"color": "red"},
    ],
)
def test_a_setting_that_cannot_be_is_refused(url, stripe_sandbox, wrong):
    answer = requests.post(url, json=wrong, timeout=5)

    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.json()["error"]
    assert stripe_sandbox.settings() == AccountSettings()


def test_a_restart_keeps_settings_and_a_reset_does_not(tmp_path):
    app = StripeApp(state=tmp_path / "state.sqlite")
    app.change_settings({"overdue_after_days": 3, "retry_after_days": [2]})
    app.close()

    again = StripeApp(state=tmp_path / "state.sqlite")
    kept = again.change_settings({})
    again.reset()

    assert (kept.overdue_after_days, kept.retry_after_days) == (3, (2,))
    assert again.change_settings({}) == AccountSettings()
    again.close()


def test_a_bad_setting_changes_nothing():
    app = StripeApp()

    with pytest.raises(BadSetting):
        app.change_settings({"latency": 1, "rate_limit": 0})

    assert app.change_settings({}) == AccountSettings()


def test_only_so_many_events_and_answers_are_kept_the_newest(api, stripe_sandbox):
    stripe_sandbox.settings(keep_events=5, keep_answers=3)
    made = [
        api.v1.customers.create({"name": str(number)}, {"idempotency_key": str(number)})
        for number in range(20)
    ]

    names = [event.data.object.name for event in api.v1.events.list().data]

    assert names == ["19", "18", "17", "16", "15"]
    assert stripe_sandbox.app.store.count("_answer") <= 4
    again = api.v1.customers.create({"name": "19"}, {"idempotency_key": "19"})
    assert again.id == made[-1].id


def test_an_event_that_is_not_delivered_yet_is_kept(api, stripe_sandbox):
    stripe_sandbox.pause_webhooks()
    api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:1/", "enabled_events": ["*"]}
    )
    stripe_sandbox.settings(keep_events=2)

    for number in range(6):
        api.v1.customers.create({"name": str(number)})

    assert len(api.v1.events.list().data) == 6
