"""The state file: restarts, killed processes and unreadable files."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
import stripe

from caravel.tests.support.waiting import read_line
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.stripe.objects.invoices import invoices
from sandbox.tests.support.stripe import builders


def with_client(sandbox, work):
    transport = stripe.RequestsClient(timeout=60)
    try:
        return work(sandbox.client(http_client=transport))
    finally:
        transport.close()


def test_objects_clock_and_idempotent_responses_survive_a_restart(tmp_path):
    state = tmp_path / "var" / "stripe.sqlite"
    key = {"idempotency_key": "k"}
    with running_sandbox(state=state) as sandbox:
        sandbox.advance(1_000_000)
        created = with_client(
            sandbox, lambda api: api.v1.customers.create({"name": "A"}, key)
        )
        subscription = with_client(sandbox, builders.subscription)
        now = sandbox.now()

    with running_sandbox(state=state) as sandbox:
        replayed = with_client(
            sandbox, lambda api: api.v1.customers.create({"name": "A"}, key)
        )
        restored = with_client(sandbox, lambda api: api.v1.subscriptions.list().data)
        later = sandbox.now()

    assert replayed.id == created.id
    assert [item.to_dict() for item in restored] == [subscription.to_dict()]
    assert 0 <= later - now < 60


def test_timers_survive_a_restart(tmp_path):
    state = tmp_path / "stripe.sqlite"
    with running_sandbox(state=state) as sandbox:
        subscription = with_client(sandbox, builders.subscription)

    with running_sandbox(state=state) as sandbox:
        sandbox.advance(2 * builders.HOUR)
        invoice = with_client(
            sandbox, lambda api: api.v1.invoices.retrieve(subscription.latest_invoice)
        )

    assert invoice.status == "open"


def test_undelivered_events_are_delivered_after_a_restart(tmp_path):
    state, url = tmp_path / "stripe.sqlite", "http://127.0.0.1:1/"
    with running_sandbox(
        state=state,
        webhook_url=url,
        post=lambda url, body, headers: 500,
        retry_delays=(60.0,),
    ) as sandbox:
        with_client(sandbox, builders.customer)
    delivered = []

    def accept(url, body, headers):
        delivered.append(json.loads(body)["type"])
        return 200

    with running_sandbox(state=state, webhook_url=url, post=accept) as sandbox:
        sandbox.app.deliveries.deliver_due()
        events = with_client(sandbox, lambda api: api.v1.events.list().data)

    assert delivered == ["customer.created"]
    assert [event.pending_webhooks for event in events] == [0]


def test_killed_process_loses_no_acknowledged_write(tmp_path):
    state = tmp_path / "stripe.sqlite"
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--state", state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = read_line(process).split()[-1]
        transport = stripe.RequestsClient(timeout=60)
        api = stripe.StripeClient(
            "sk_test_x", base_addresses={"api": url}, http_client=transport
        )
        created = [builders.customer(api).id for _ in range(20)]
        transport.close()
        process.send_signal(signal.SIGKILL)

    with running_sandbox(state=state) as sandbox:
        restored = with_client(
            sandbox, lambda api: api.v1.customers.list({"limit": 100}).data
        )

    assert [item.id for item in reversed(restored)] == created


def write_older_format(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE records (kind, id, seq, body)")
    db.close()


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (write_older_format, "written by another version"),
        (lambda path: path.write_text("no database at all" * 99), "cannot be read"),
    ],
)
def test_unreadable_state_file_is_rejected_and_not_changed(tmp_path, write, error):
    state = tmp_path / "stripe.sqlite"
    write(state)
    before = state.read_bytes()

    process = subprocess.run(
        [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 1
    assert error in process.stderr
    assert process.stderr.count("\n") == 1
    assert state.read_bytes() == before


def test_timers_due_in_the_same_second_keep_their_order_after_a_restart(tmp_path):
    state, orders = tmp_path / "stripe.sqlite", []

    def end_in_order(sandbox):
        sandbox.advance(2 * builders.DAY)
        listed = with_client(
            sandbox,
            lambda api: api.v1.events.list({"type": "customer.subscription.deleted"}),
        )
        orders.append([event.data.object.id for event in reversed(listed.data)])

    with running_sandbox(state=state) as sandbox:
        ends_at = sandbox.now() + builders.DAY
        first, second = (
            with_client(sandbox, builders.subscription).id for _ in range(2)
        )
        schedule = {"cancel_at": ends_at, "proration_behavior": "none"}
        for id in (second, first):
            with_client(
                sandbox, lambda api, id=id: api.v1.subscriptions.update(id, schedule)
            )
        copy = shutil.copy(state, tmp_path / "copy.sqlite")
        shutil.copy(f"{state}-wal", f"{copy}-wal")
        end_in_order(sandbox)
    with running_sandbox(state=copy) as sandbox:
        end_in_order(sandbox)

    assert orders == [[first, second]] * 2


def schedule_and_fail(context, payer):
    invoices.create(context, {"customer": payer, "auto_advance": True})
    raise ZeroDivisionError


def test_deleted_and_rolled_back_records_have_no_timer():
    app = StripeApp(seed=1)
    api = in_process_client(app)
    payer = builders.customer(api).id
    draft = api.v1.invoices.create({"customer": payer, "auto_advance": True})
    scheduled = app.scheduler.next_at()

    api.v1.invoices.delete(draft.id)
    with pytest.raises(ZeroDivisionError):
        app.transact(lambda context: schedule_and_fail(context, payer))

    assert scheduled == draft.automatically_finalizes_at
    assert app.scheduler.next_at() is None


def test_restart_with_the_same_seed_creates_new_ids(tmp_path):
    state, created = tmp_path / "stripe.sqlite", []
    for _ in range(3):
        with running_sandbox(state=state, seed=7) as sandbox:
            created.append(with_client(sandbox, builders.customer).id)
            listed = with_client(sandbox, lambda api: api.v1.customers.list().data)

    assert [item.id for item in reversed(listed)] == created
    assert len(set(created)) == 3
