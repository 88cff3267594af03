"""Suspension for unpaid invoices, and reactivation, by our own clock."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import GraceLimitExceeded
from billing.models import Credit, InvoiceCollection, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import record_credit
from billing.services.dunning.notices import notify_invoice_due
from billing.services.dunning.suspension import (
    Review,
    end_grace_now,
    extend_grace,
    review_tenant,
    tenants_to_review,
)
from billing.services.subscriptions.diff import is_in_sync
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tasks import review_dunning
from billing.tasks import review_tenant as review_task
from billing.tests.factories import InvoiceCollectionFactory
from billing.tests.support.threads import in_threads
from relays.models import Plan
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Notice, Tenant
from tenants.services.tenants import update_tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

ACTIVE, INACTIVE, DELINQUENT = "active", "inactive", "delinquent"


@pytest.fixture
def tenant():
    return TenantFactory(stripe_customer_id="cus_1", stripe_subscription_id="sub_1")


@pytest.fixture
def relay(tenant):
    return RelayFactory(tenant=tenant)


def make_invoice(tenant, **columns) -> InvoiceCollection:
    return InvoiceCollectionFactory(tenant=tenant, **columns)


def make_overdue_invoice(tenant, **columns) -> InvoiceCollection:
    created_at = timezone.now() - timedelta(days=8)
    return make_invoice(tenant, created_at=created_at, **columns)


def change(invoice, **columns) -> None:
    InvoiceCollection.objects.filter(pk=invoice.pk).update(**columns)


def pay(invoice) -> None:
    change(invoice, stripe_status="paid", amount_remaining_cents=0)


def review(tenant) -> Review:
    """Review; check that beat would have found the tenant if anything changed."""
    before = _state(tenant)
    was_found = tenant.pk in tenants_to_review(timezone.now())
    outcome = review_tenant(tenant_id=tenant.pk)
    assert was_found == (_state(tenant) != before)
    assert tenant.pk not in tenants_to_review(timezone.now())
    return outcome


def _state(tenant) -> list[object]:
    row = Tenant.objects.get(pk=tenant.pk)
    return [
        row.past_due_at,
        row.payment_overdue_since,
        row.nwc_url.token,
        *tenant.relays.order_by("pk").values_list("status", flat=True),
        *Notice.objects.filter(kind__startswith="reminder").values_list("kind"),
    ]


def status_of(relay) -> str:
    relay.refresh_from_db()
    return str(relay.status)


def notice_kinds(tenant) -> list[str]:
    waiting = Notice.objects.waiting().filter(tenant=tenant).order_by("pk")
    return list(waiting.values_list("kind", flat=True))


def end_of_grace(invoice) -> datetime:
    invoice.refresh_from_db()
    assert isinstance(invoice.suspend_at, datetime)
    return invoice.suspend_at


def at(time):
    return time_machine.travel(time, tick=False)


# --- suspension


def test_relays_are_suspended_at_the_end_of_the_grace_period(tenant, relay):
    invoice = make_invoice(tenant)

    with at(end_of_grace(invoice) - timedelta(microseconds=1)):
        assert review(tenant) == Review.UNCHANGED
        assert status_of(relay) == ACTIVE
    with at(invoice.suspend_at):
        assert review(tenant) == Review.SUSPENDED
    assert status_of(relay) == DELINQUENT
    notice = Notice.objects.get(kind="suspended")
    assert (notice.subject, notice.state) == (invoice.pk, "waiting")


def test_only_active_paid_relays_are_suspended(tenant, relay):
    free = RelayFactory(tenant=tenant, plan=Plan.objects.get(pk="free"))
    off, other = RelayFactory(tenant=tenant, status=INACTIVE), RelayFactory()
    second = RelayFactory(tenant=tenant, plan=Plan.objects.get(pk="growth"))
    make_overdue_invoice(tenant)

    review(tenant)

    assert [status_of(r) for r in (relay, second)] == [DELINQUENT, DELINQUENT]
    assert [status_of(r) for r in (free, off, other)] == [ACTIVE, INACTIVE, ACTIVE]


@pytest.mark.parametrize(
    "columns",
    [
        {"stripe_status": "paid", "amount_remaining_cents": 0},
        {"stripe_status": "void"},
        {"stripe_status": "uncollectible", "amount_remaining_cents": 0},
        {"stripe_status": "open", "amount_remaining_cents": 0},
        {"stripe_status": "draft", "finalized_at": None, "suspend_at": None},
    ],
)
def test_no_suspension_for_an_invoice_with_nothing_to_pay(tenant, relay, columns):
    make_overdue_invoice(tenant, **columns)

    assert review(tenant) == Review.UNCHANGED
    assert status_of(relay) == ACTIVE
    assert notice_kinds(tenant) == []


def test_uncollectible_invoice_suspends_relays(tenant, relay):
    make_overdue_invoice(tenant, stripe_status="uncollectible")

    assert review(tenant) == Review.SUSPENDED


def test_no_suspension_of_an_exempt_tenant(tenant, relay):
    Tenant.objects.update(dunning_exempt=True)
    make_overdue_invoice(tenant)

    assert review(tenant) == Review.UNCHANGED

    assert status_of(relay) == ACTIVE
    assert notice_kinds(tenant) == []


def test_exemption_enqueues_a_review(
    tenant, relay, monkeypatch, django_capture_on_commit_callbacks
):
    make_overdue_invoice(tenant)
    review(tenant)
    monkeypatch.setattr(review_task, "apply_async", lambda args, *_: review_task(*args))

    with django_capture_on_commit_callbacks(execute=True):
        update_tenant(pubkey=tenant.pk, dunning_exempt=True)

    assert status_of(relay) == ACTIVE
    tenant.refresh_from_db()
    assert tenant.payment_overdue_since is None


def test_no_suspension_for_another_tenants_invoice(tenant, relay):
    make_overdue_invoice(TenantFactory(stripe_customer_id="cus_2"))

    assert review(tenant) == Review.UNCHANGED


def test_relay_activated_during_suspension_is_suspended_again(tenant, relay):
    make_overdue_invoice(tenant)
    review(tenant)
    lifecycle.reactivate_relay(relay_id=relay.pk)

    assert review(tenant) == Review.SUSPENDED

    assert status_of(relay) == DELINQUENT


def test_second_review_changes_nothing(tenant, relay):
    make_overdue_invoice(tenant)

    assert review(tenant) == Review.SUSPENDED
    assert review(tenant) == Review.UNCHANGED

    assert notice_kinds(tenant) == ["suspended"]
    assert Activity.objects.filter(type="mark_relay_delinquent").count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("paid", [False, True])
def test_concurrent_reviews_suspend_or_reactivate_once(paid):
    tenant = TenantFactory(stripe_subscription_id="sub_1")
    for _ in range(3):
        RelayFactory(tenant=tenant)
    invoice = make_overdue_invoice(tenant)
    if paid:
        review_tenant(tenant_id=tenant.pk)
        pay(invoice)
    outcomes: list[Review] = []

    def run():
        outcomes.append(review_tenant(tenant_id=tenant.pk))

    assert in_threads(4, run) == []

    expected = Review.REACTIVATED if paid else Review.SUSPENDED
    assert sorted(outcomes) == sorted([expected, *[Review.UNCHANGED] * 3])
    kind = "reactivate_relay" if paid else "mark_relay_delinquent"
    assert Activity.objects.filter(type=kind).count() == 3
    assert notice_kinds(tenant) == ["reactivated" if paid else "suspended"]


# --- reactivation


@pytest.mark.parametrize(
    "columns",
    [
        {"stripe_status": "paid", "amount_remaining_cents": 0},
        {"stripe_status": "void"},
        {"stripe_status": "open", "amount_remaining_cents": 0},
    ],
)
def test_relays_return_when_the_invoice_is_settled(tenant, relay, columns):
    invoice = make_overdue_invoice(tenant)
    off = RelayFactory(tenant=tenant, status=INACTIVE)
    review(tenant)

    change(invoice, **columns)

    assert review(tenant) == Review.REACTIVATED
    assert (status_of(relay), status_of(off)) == (ACTIVE, INACTIVE)


def test_relays_stay_off_until_every_overdue_invoice_is_paid(tenant, relay):
    first, second = make_overdue_invoice(tenant), make_overdue_invoice(tenant)
    review(tenant)

    pay(first)
    assert review(tenant) == Review.UNCHANGED
    assert status_of(relay) == DELINQUENT

    pay(second)
    assert review(tenant) == Review.REACTIVATED
    assert status_of(relay) == ACTIVE


def test_invoice_in_its_grace_period_keeps_no_relay_off(tenant, relay):
    first, _ = make_overdue_invoice(tenant), make_invoice(tenant)
    review(tenant)

    pay(first)

    assert review(tenant) == Review.REACTIVATED


def test_zero_invoice_reactivates_nothing(tenant, relay):
    make_overdue_invoice(tenant)
    review(tenant)

    make_invoice(tenant, stripe_status="paid", amount_remaining_cents=0)

    assert review(tenant) == Review.UNCHANGED
    assert status_of(relay) == DELINQUENT


def test_relay_deactivated_during_suspension_stays_inactive(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    lifecycle.deactivate_relay(relay_id=relay.pk)

    pay(invoice)
    review(tenant)

    assert status_of(relay) == INACTIVE


def test_credits_are_posted_before_relays_are_reactivated(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    credit = record_credit(
        tenant_id=tenant.pk,
        reason=Credit.Reason.UNSERVED,
        source="unserved 1",
        currency="usd",
        amount_cents=100,
    )
    pay(invoice)

    assert review(tenant) == Review.CREDIT_FIRST
    assert status_of(relay) == DELINQUENT
    Credit.objects.filter(pk=credit.pk).update(state="posted", posted_at=timezone.now())
    assert review(tenant) == Review.REACTIVATED


def test_credit_without_a_customer_does_not_delay_reactivation(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    record_credit(
        tenant_id=tenant.pk,
        reason=Credit.Reason.SURPLUS,
        source="surplus 1",
        currency="usd",
        amount_cents=100,
    )
    pay(invoice)
    Tenant.objects.update(stripe_customer_id=None)

    assert review(tenant) == Review.REACTIVATED


# --- extensions


def test_extension_reactivates_relays_until_it_ends(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)

    assert extend_grace(invoice_id=invoice.pk, by=timedelta(days=3))

    assert status_of(relay) == ACTIVE
    assert notice_kinds(tenant) == ["reactivated", "reminder_3"]
    invoice.refresh_from_db()
    with at(invoice.suspend_at):
        assert review(tenant) == Review.SUSPENDED
        assert notice_kinds(tenant) == ["suspended"]


def test_extension_is_added_to_the_remaining_grace_period(tenant):
    invoice = make_invoice(tenant)
    before = end_of_grace(invoice)

    assert extend_grace(invoice_id=invoice.pk, by=timedelta(days=3))

    assert end_of_grace(invoice) == before + timedelta(days=3)


def test_no_extension_beyond_the_limit(tenant, relay, settings):
    settings.BILLING_MAX_GRACE_DAYS = 10
    invoice = make_overdue_invoice(tenant)
    review(tenant)

    with pytest.raises(GraceLimitExceeded, match="at most 10 days after"):
        extend_grace(invoice_id=invoice.pk, by=timedelta(days=3))

    assert end_of_grace(invoice) == invoice.suspend_at
    assert status_of(relay) == DELINQUENT
    assert extend_grace(invoice_id=invoice.pk, by=timedelta(days=1))
    assert status_of(relay) == ACTIVE


def test_no_extension_for_a_paid_invoice(tenant):
    invoice = make_invoice(tenant)
    pay(invoice)

    assert not extend_grace(invoice_id=invoice.pk, by=timedelta(days=3))


def test_ending_the_grace_period_suspends_now(tenant, relay):
    invoice, paid = make_invoice(tenant), make_invoice(tenant)
    pay(paid)

    both = [invoice.pk, paid.pk]
    assert end_grace_now(tenant_id=tenant.pk, invoice_ids=both) == Review.SUSPENDED
    assert end_grace_now(tenant_id=tenant.pk, invoice_ids=both) == Review.UNCHANGED

    assert status_of(relay) == DELINQUENT
    assert end_of_grace(invoice) <= timezone.now() < end_of_grace(paid)


def test_ending_a_grace_period_that_is_over_changes_nothing(tenant):
    invoice = make_overdue_invoice(tenant)

    end_grace_now(tenant_id=tenant.pk, invoice_ids=[invoice.pk])

    before = invoice.suspend_at
    assert end_of_grace(invoice) == before


def test_ending_the_grace_period_ignores_other_tenants_invoices(tenant):
    other = make_invoice(TenantFactory())

    end_grace_now(tenant_id=tenant.pk, invoice_ids=[other.pk])

    assert end_of_grace(other) > timezone.now()


def test_extension_after_the_end_of_the_subscription_switches_relays_on_at_once(
    tenant, relay
):
    """The credit for unserved time waits for hours while a bolt11 can be paid."""
    invoice = make_invoice(tenant)
    end_grace_now(tenant_id=tenant.pk, invoice_ids=[invoice.pk])
    Tenant.objects.update(stripe_subscription_id=None)
    record_credit(
        tenant_id=tenant.pk,
        reason=Credit.Reason.UNSERVED,
        source="sub_1",
        currency="usd",
        amount_cents=400,
        collection_id=invoice.pk,
    )

    extend_grace(invoice_id=invoice.pk, by=timedelta(days=3))

    assert status_of(relay) == ACTIVE
    assert review(tenant) == Review.UNCHANGED


def test_review_by_beat_switches_relays_on_while_a_blocked_tenant_has_a_credit(
    tenant, relay
):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    Tenant.objects.update(stripe_subscription_id=None)
    record_credit(
        tenant_id=tenant.pk,
        reason=Credit.Reason.SURPLUS,
        source="surplus 1",
        currency="usd",
        amount_cents=100,
    )
    change(invoice, suspend_at=timezone.now() + timedelta(days=1))

    assert review(tenant) == Review.REACTIVATED


# --- payment block and past due


def test_payment_block_lasts_as_long_as_the_suspension(tenant):
    invoice = make_invoice(tenant)

    with at(invoice.suspend_at):
        review(tenant)
        tenant.refresh_from_db()
        assert tenant.payment_overdue_since == invoice.suspend_at
        pay(invoice)
        review(tenant)
    tenant.refresh_from_db()
    assert tenant.payment_overdue_since is None


def test_unpaid_invoice_without_a_subscription_blocks_at_once(tenant):
    Tenant.objects.update(stripe_subscription_id=None)
    make_invoice(tenant)

    review(tenant)

    tenant.refresh_from_db()
    assert tenant.payment_overdue_since is not None


def test_end_of_a_payment_block_enqueues_a_sync(tenant):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    pay(invoice)
    assert not SubscriptionSync.objects.filter(pk=tenant.pk).exists()

    review(tenant)

    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale


@pytest.mark.parametrize(
    ("attempts_started", "state", "is_past_due"),
    [
        (0, "collecting", False),
        (1, "collecting", False),
        (1, "pending", False),
        (1, "manual", True),
        (2, "pending", True),
    ],
)
def test_tenant_is_past_due_after_one_whole_failed_attempt(
    tenant, attempts_started, state, is_past_due
):
    make_invoice(tenant)
    invoice = make_invoice(tenant, attempts_started=attempts_started, state=state)

    review(tenant)

    tenant.refresh_from_db()
    assert tenant.past_due_at == (invoice.finalized_at if is_past_due else None)
    pay(invoice)
    review(tenant)
    tenant.refresh_from_db()
    assert tenant.past_due_at is None


def test_past_due_starts_with_the_oldest_invoice_and_suspends_nothing(tenant, relay):
    now = timezone.now()
    for days in (1, 3, 2):
        created_at = now - timedelta(days=days)
        make_invoice(tenant, created_at=created_at, attempts_started=2, state="manual")

    review(tenant)

    tenant.refresh_from_db()
    assert tenant.past_due_at == now - timedelta(days=3)
    assert status_of(relay) == ACTIVE


# --- beat


def test_beat_reviews_only_tenants_that_a_review_would_change(
    monkeypatch, tenant, relay
):
    make_overdue_invoice(tenant)
    RelayFactory(), make_invoice(TenantFactory(stripe_subscription_id="sub_2"))
    reviewed = []
    monkeypatch.setattr(
        review_task, "apply_async", lambda args, *_, **__: reviewed.append(args[0])
    )

    review_dunning()
    assert reviewed == [tenant.pk]
    review_task(tenant.pk)
    review_dunning()

    assert reviewed == [tenant.pk]
    assert status_of(relay) == DELINQUENT


def test_finding_tenants_to_review_takes_one_query(
    django_assert_num_queries,
):
    for number in range(5):
        tenant = TenantFactory(stripe_subscription_id=f"sub_{number}")
        RelayFactory(tenant=tenant)
        make_overdue_invoice(tenant)

    with django_assert_num_queries(1):
        assert len(tenants_to_review(timezone.now())) == 5


def test_review_without_changes_takes_few_queries(
    tenant, relay, django_assert_max_num_queries
):
    for _ in range(10):
        make_invoice(tenant)
    review(tenant)

    with django_assert_max_num_queries(15):
        review_tenant(tenant_id=tenant.pk)


# --- unsent notices


def test_unsent_notices_that_no_longer_apply_are_dropped(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    assert notice_kinds(tenant) == ["suspended"]

    pay(invoice)
    review(tenant)
    assert notice_kinds(tenant) == ["reactivated"]

    again = make_overdue_invoice(tenant)
    review(tenant)
    assert notice_kinds(tenant) == ["suspended"]
    assert Notice.objects.waiting().get().subject == again.pk


def test_suspension_notice_names_the_invoice_that_still_suspends(tenant, relay):
    first, second = make_overdue_invoice(tenant), make_overdue_invoice(tenant)
    review(tenant)
    assert Notice.objects.waiting().get().subject == first.pk

    pay(first)
    review(tenant)

    assert Notice.objects.waiting().get().subject == second.pk


def test_new_suspension_notice_names_the_second_overdue_invoice(tenant, relay):
    first, second = make_overdue_invoice(tenant), make_overdue_invoice(tenant)
    review(tenant)
    _send_all()

    pay(first)
    review(tenant)
    review(tenant)

    assert notice_kinds(tenant) == ["suspended"]
    assert Notice.objects.waiting().get().subject == second.pk


def test_extension_of_one_invoice_sends_a_notice_of_the_other(tenant, relay):
    first, second = make_overdue_invoice(tenant), make_overdue_invoice(tenant)
    review(tenant)

    extend_grace(invoice_id=first.pk, by=timedelta(days=3))

    notice = Notice.objects.waiting().filter(kind="suspended").get()
    assert notice.subject == second.pk
    assert status_of(relay) == DELINQUENT


def test_no_suspension_notice_without_a_paid_relay(tenant):
    make_overdue_invoice(tenant)

    review(tenant)

    assert notice_kinds(tenant) == []


def test_reactivation_by_extension_names_the_open_amount(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    _send_all()

    extend_grace(invoice_id=invoice.pk, by=timedelta(days=1))

    back = Notice.objects.get(kind="reactivated")
    assert f"{invoice.number} for $5.00 is still open" in back.text


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"amount_remaining_cents": 320}, "$3.20"),
        ({"suspend_at": datetime(2035, 2, 1, 9, 30, tzinfo=UTC)}, "1 February 2035"),
    ],
)
def test_unsent_notice_is_rendered_again_when_facts_change(
    tenant, relay, columns, expected
):
    invoice = make_invoice(tenant)
    notify_invoice_due(invoice)
    change(invoice, **columns)

    review(tenant)
    review(tenant)

    (notice,) = Notice.objects.all()
    assert (notice.kind, notice.state) == ("invoice_due", "waiting")
    assert expected in notice.title
    assert expected in notice.text


@pytest.mark.parametrize("column", ["dm_sent_at", "email_sent_at"])
def test_sent_notice_is_not_rendered_again(tenant, relay, column):
    invoice = make_invoice(tenant)
    notice = notify_invoice_due(invoice)
    Notice.objects.update(**{column: timezone.now()})
    change(invoice, amount_remaining_cents=320)

    review(tenant)

    assert "$5.00" in Notice.objects.get(pk=notice.pk, state="waiting").text


def test_unsent_notice_with_the_same_text_is_kept(tenant, relay):
    invoice = make_invoice(tenant)
    notify_invoice_due(invoice)
    before = Notice.objects.values("text", "created_at").get()

    with at(timezone.now() + timedelta(days=1)):
        review(tenant)

    assert Notice.objects.values("text", "created_at").get() == before


def test_suspension_notice_replaces_an_unsent_payment_request(tenant, relay):
    invoice = make_invoice(tenant)
    notify_invoice_due(invoice)

    with at(end_of_grace(invoice)):
        review(tenant)

    assert notice_kinds(tenant) == ["suspended"]


def test_second_suspension_by_the_same_invoice_sends_another_notice(tenant, relay):
    invoice = make_overdue_invoice(tenant)
    review(tenant)
    _send_all()
    extend_grace(invoice_id=invoice.pk, by=timedelta(days=1))
    _send_all()
    invoice.refresh_from_db()

    with at(invoice.suspend_at):
        review(tenant)

    assert notice_kinds(tenant) == ["suspended"]
    assert Notice.objects.filter(kind="suspended").count() == 2


def _send_all():
    Notice.objects.waiting().update(state="sent", sent_at=timezone.now())


# --- at Stripe


@pytest.fixture
def subscriber(prices):
    """A tenant whose first invoice is open."""
    tenant = TenantFactory()
    RelayFactory(tenant=tenant)
    _collect(tenant)
    return tenant


def _collect(tenant):
    sync_tenant(tenant_id=tenant.pk)
    for row in tenant.collections.order_by("pk"):
        collect_invoice(invoice_id=row.pk)
    tenant.refresh_from_db()


def _subscriptions(sandbox, **params):
    return sandbox.client().v1.subscriptions.list({"status": "all", **params}).data


def test_suspension_ends_the_subscription_and_payment_restores_it(sandbox, subscriber):
    """Once the invoice is paid, relays and subscription are restored."""
    (invoice,) = subscriber.collections.all()
    with time_machine.travel(invoice.suspend_at):
        sandbox.advance(0)
        review_tenant(tenant_id=subscriber.pk)
        _collect(subscriber)
        assert subscriber.relays.get().status == DELINQUENT
        assert [sub.status for sub in _subscriptions(sandbox)] == ["canceled"]

        api = sandbox.client().v1
        api.invoices.pay(invoice.pk, {"paid_out_of_band": True})
        _collect(subscriber)
        _collect(subscriber)

        assert subscriber.relays.get().status == ACTIVE
        assert subscriber.payment_overdue_since is None
        (live,) = _subscriptions(sandbox, status="active")
        assert live.id == subscriber.stripe_subscription_id


def test_blocked_tenants_quantity_is_raised_only_after_payment(
    sandbox, subscriber, prices
):
    RelayFactory(tenant=subscriber, plan=Plan.objects.get(pk="growth"))
    RelayFactory(tenant=subscriber)
    (invoice,) = subscriber.collections.all()
    change(invoice, suspend_at=timezone.now())

    _sync(subscriber)

    assert _items(sandbox, subscriber) == {prices["basic"]: 1}
    assert subscriber.payment_overdue_since is not None
    writes = len(sandbox.requests("POST"))
    _sync(subscriber)
    assert len(sandbox.requests("POST")) == writes

    sandbox.client().v1.invoices.pay(invoice.pk, {"paid_out_of_band": True})
    collect_invoice(invoice_id=invoice.pk)
    _sync(subscriber)
    assert _items(sandbox, subscriber) == {prices["basic"]: 2, prices["growth"]: 1}


def _sync(tenant):
    mark_stale(tenant_id=tenant.pk)
    assert sync_tenant(tenant_id=tenant.pk) == SyncOutcome.IN_SYNC
    tenant.refresh_from_db()


def _items(sandbox, tenant):
    api = sandbox.client().v1.subscriptions
    items = api.retrieve(tenant.stripe_subscription_id).items.data
    return {item.price.id: item.quantity for item in items}


def test_blocked_tenants_quantity_may_fall(sandbox, subscriber, prices):
    second = RelayFactory(tenant=subscriber)
    _sync(subscriber)
    (invoice,) = subscriber.collections.all()
    change(invoice, suspend_at=timezone.now())

    lifecycle.deactivate_relay(relay_id=second.pk)
    _sync(subscriber)

    assert _items(sandbox, subscriber) == {prices["basic"]: 1}


def test_no_subscription_is_created_for_a_blocked_tenant(sandbox, subscriber):
    (relay,) = subscriber.relays.all()
    sandbox.advance(10 * 86_400)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    _sync(subscriber)
    assert subscriber.stripe_subscription_id is None
    assert subscriber.payment_overdue_since is not None
    subscriber.relays.update(status=ACTIVE)

    _sync(subscriber)

    assert [sub.status for sub in _subscriptions(sandbox)] == ["canceled"]


def test_no_sync_for_a_subscription_capped_by_a_payment_block(subscriber):
    Tenant.objects.update(payment_overdue_since=timezone.now())
    RelayFactory(tenant=subscriber)
    subscriber.refresh_from_db()
    subscription = Stripe().subscriptions.get(subscriber.stripe_subscription_id)

    assert is_in_sync(subscriber, subscription)
    Tenant.objects.update(payment_overdue_since=None)
    subscriber.refresh_from_db()
    assert not is_in_sync(subscriber, subscription)
