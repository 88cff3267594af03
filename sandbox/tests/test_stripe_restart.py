"""State on disk survives a restart and the death of the process."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects import invoices
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story


def talk(sandbox, work):
    transport = stripe.RequestsClient(timeout=20)
    try:
        return work(sandbox.client(http_client=transport))
    finally:
        transport.close()


def test_objects_clock_and_answers_survive(tmp_path):
    state = tmp_path / "var" / "stripe.sqlite"
    key = {"idempotency_key": "k"}
    with running_sandbox(state=state) as sandbox:
        sandbox.advance(1_000_000)
        made = talk(sandbox, lambda api: api.v1.customers.create({"name": "A"}, key))
        subscribed = talk(sandbox, story.subscription)
        now = sandbox.now()

    with running_sandbox(state=state) as sandbox:
        again = talk(sandbox, lambda api: api.v1.customers.create({"name": "A"}, key))
        kept = talk(sandbox, lambda api: api.v1.subscriptions.list().data)
        later = sandbox.now()

    assert again.id == made.id
    assert [one.to_dict() for one in kept] == [subscribed.to_dict()]
    assert 0 <= later - now < 60


def test_what_is_due_stays_due(tmp_path):
    state = tmp_path / "stripe.sqlite"
    with running_sandbox(state=state) as sandbox:
        subscribed = talk(sandbox, story.subscription)

    with running_sandbox(state=state) as sandbox:
        sandbox.advance(2 * story.HOUR)
        invoice = talk(
            sandbox, lambda api: api.v1.invoices.retrieve(subscribed.latest_invoice)
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
        talk(sandbox, story.customer)
    got = []

    def accept(url, body, headers):
        got.append(json.loads(body)["type"])
        return 200

    with running_sandbox(state=state, webhook_url=url, post=accept) as sandbox:
        sandbox.app.deliveries.deliver_due()
        story_of_events = talk(sandbox, lambda api: api.v1.events.list().data)

    assert got == ["customer.created"]
    assert [event.pending_webhooks for event in story_of_events] == [0]


def test_a_killed_process_loses_nothing_it_answered(tmp_path):
    state = tmp_path / "stripe.sqlite"
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--state", state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = story.first_line(process).split()[-1]
        transport = stripe.RequestsClient(timeout=20)
        api = stripe.StripeClient(
            "sk_test_x", base_addresses={"api": url}, http_client=transport
        )
        made = [story.customer(api).id for _ in range(20)]
        transport.close()
        process.send_signal(signal.SIGKILL)

    with running_sandbox(state=state) as sandbox:
        kept = talk(sandbox, lambda api: api.v1.customers.list({"limit": 100}).data)

    assert [one.id for one in reversed(kept)] == made


def older(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE records (kind, id, seq, body)")
    db.close()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (older, "written by another version"),
        (lambda path: path.write_text("no database at all" * 99), "cannot be read"),
    ],
)
def test_a_state_that_it_would_misread_is_refused(tmp_path, write, said):
    state = tmp_path / "stripe.sqlite"
    write(state)
    before = state.read_bytes()

    process = subprocess.run(
        [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert process.returncode == 1
    assert said in process.stderr
    assert process.stderr.count("\n") == 1
    assert state.read_bytes() == before


def test_what_is_due_in_one_second_comes_in_the_same_order(tmp_path):
    state, order = tmp_path / "stripe.sqlite", []

    def finalize_in_order(sandbox):
        sandbox.advance(2 * story.DAY)
        listed = talk(
            sandbox, lambda api: api.v1.events.list({"type": "invoice.finalized"})
        )
        order.append([event.data.object.id for event in reversed(listed.data)])

    with running_sandbox(state=state) as sandbox:
        payer = talk(sandbox, story.customer).id
        at = sandbox.now() + story.DAY
        first, second = (
            talk(sandbox, lambda api: api.v1.invoices.create({"customer": payer})).id
            for _ in range(2)
        )
        schedule = {"auto_advance": True, "automatically_finalizes_at": at}
        for id in (second, first):
            talk(sandbox, lambda api, id=id: api.v1.invoices.update(id, schedule))
        copy = shutil.copy(state, tmp_path / "copy.sqlite")
        shutil.copy(f"{state}-wal", f"{copy}-wal")
        finalize_in_order(sandbox)
    with running_sandbox(state=copy) as sandbox:
        finalize_in_order(sandbox)

    assert order == [[first, second]] * 2


def schedule_and_fail(context, payer):
    invoices.create(context, {"customer": payer, "auto_advance": True})
    raise ZeroDivisionError


def test_nothing_is_due_on_what_is_gone():
    app = StripeApp(seed=1)
    api = in_process_client(app)
    payer = story.customer(api).id
    draft = api.v1.invoices.create({"customer": payer, "auto_advance": True})
    scheduled = app.scheduler.next_at()

    api.v1.invoices.delete(draft.id)
    with pytest.raises(ZeroDivisionError):
        app.transact(lambda context: schedule_and_fail(context, payer))

    assert scheduled == draft.automatically_finalizes_at
    assert app.scheduler.next_at() is None


def test_a_seed_makes_no_id_a_second_time(tmp_path):
    state, made = tmp_path / "stripe.sqlite", []
    for _ in range(3):
        with running_sandbox(state=state, seed=7) as sandbox:
            made.append(talk(sandbox, story.customer).id)
            listed = talk(sandbox, lambda api: api.v1.customers.list().data)

    assert [one.id for one in reversed(listed)] == made
    assert len(set(made)) == 3
