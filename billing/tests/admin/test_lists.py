"""Lists of the admin cost the same however large their table is."""

from urllib.parse import parse_qsl

import pytest
import time_machine
from django.contrib import admin
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import StripeEvent
from billing.tests.factories import InvoiceCollectionFactory, StripeEventFactory
from caravel.core import admin_lists
from caravel.core.admin_lists import ListAdmin
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

#: Models with few rows, whose pages are Django's own.
SMALL = {"auth.User", "auth.Group", "relays.Plan"}
PAGES = {
    model._meta.label: page
    for model, page in admin.site._registry.items()
    if model._meta.label not in SMALL
}


def found(client, name, **query):
    page = client.get(reverse(f"admin:{name}_changelist"), query)
    return page.context["cl"]


def relays_found(client, text):
    rows = found(client, "relays_relay", q=text).result_list
    return sorted(relay.subdomain for relay in rows)


@pytest.mark.parametrize("label", PAGES)
def test_each_list_is_one_that_may_grow(label):
    assert isinstance(PAGES[label], ListAdmin)
    assert not PAGES[label].date_hierarchy, "groups the whole table by month"


@pytest.mark.parametrize("label", PAGES)
def test_each_search_names_a_lookup_that_an_index_supports(label):
    lookups = ("__startswith", "__exact", "__icontains")
    assert all(name.endswith(lookups) for name in PAGES[label].search_fields)


@pytest.mark.parametrize("label", PAGES)
def test_each_list_joins_nothing(label, admin_user):
    request = RequestFactory().get("/")
    request.user = admin_user

    rows = PAGES[label].get_changelist_instance(request).queryset

    assert rows.query.select_related is False


def test_rows_are_counted_up_to_a_limit(admin_client, monkeypatch):
    TenantFactory.create_batch(3)
    assert found(admin_client, "tenants_tenant").result_count == 3

    monkeypatch.setattr(admin_lists, "COUNTED", 2)
    page = admin_client.get(reverse("admin:tenants_tenant_changelist"))

    assert page.context["cl"].result_count == 2
    assert "2 or more" in page.content.decode()


def test_action_for_all_rows_takes_those_that_are_counted(admin_client, monkeypatch):
    monkeypatch.setattr(admin_lists, "COUNTED", 2)
    oldest = StripeEventFactory(status="failed")
    StripeEventFactory.create_batch(2, status="failed")
    action = {"action": "process_again", "select_across": "1", "_selected_action": "x"}

    page = admin_client.post(
        reverse("admin:billing_stripeevent_changelist"), action, follow=True
    )

    assert [str(message) for message in page.context["messages"]] == [
        "Only the first 2 rows were selected; there are more.",
        "Enqueued 2 events.",
    ]
    assert list(StripeEvent.objects.filter(status="failed")) == [oldest]


def test_more_rows_need_no_more_queries(admin_client):
    def count_queries():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            found(admin_client, "relays_relay")
            found(admin_client, "billing_stripeevent")
            found(admin_client, "tenants_tenant")
        return len(queries)

    RelayFactory()
    StripeEventFactory(tenant=TenantFactory())
    count_queries()  # Django caches content types
    before = count_queries()
    RelayFactory.create_batch(5)
    StripeEventFactory(tenant=TenantFactory())

    assert count_queries() == before


def test_search_finds_any_part_of_a_name_in_any_case(admin_client):
    RelayFactory(subdomain="bluebirds", name="Singing in Rain")
    RelayFactory(subdomain="other", name="Raining")

    assert relays_found(admin_client, "EBIR") == ["bluebirds"]
    assert relays_found(admin_client, "rain") == ["bluebirds", "other"]
    assert relays_found(admin_client, "rain sing") == ["bluebirds"]
    assert relays_found(admin_client, "rain other") == ["other"]
    assert relays_found(admin_client, "rain nothing") == []


def test_search_for_words_in_quotes_finds_them_in_this_order(admin_client):
    RelayFactory(subdomain="one", name="Singing in Rain")
    RelayFactory(subdomain="two", name="Rain, singing")

    assert relays_found(admin_client, '"singing in"') == ["one"]
    assert relays_found(admin_client, '"') == ["one", "two"]


def test_search_finds_words_in_columns_of_several_tables(admin_client):
    tenant = TenantFactory(display_name="Ann")
    RelayFactory(subdomain="hers", tenant=tenant)
    RelayFactory(subdomain="other", tenant=tenant)

    assert relays_found(admin_client, f"hers {tenant.npub}") == ["hers"]


def test_search_finds_other_spellings_of_what_has_one(admin_client):
    collection = InvoiceCollectionFactory(
        number="4DB5BEF0-0001", stripe_invoice_id="in_1AbC"
    )
    InvoiceCollectionFactory()
    pubkey = collection.tenant_id

    for text in ("4db5bef0", "4DB5BEF0-0001", "in_1AbC", pubkey[:12].upper()):
        rows = found(admin_client, "billing_invoicecollection", q=text).result_list
        assert list(rows) == [collection]


def test_search_that_finds_more_than_is_counted_says_so(admin_client, monkeypatch):
    TenantFactory.create_batch(3, display_name="Ann")
    monkeypatch.setattr(admin_lists, "COUNTED", 2)

    page = admin_client.get(reverse("admin:tenants_tenant_changelist"), {"q": "Ann"})

    assert "2 or more" in page.content.decode()


def test_search_with_a_filter_finds_what_lies_behind_the_limit(
    admin_client, monkeypatch
):
    TenantFactory.create_batch(5, display_name="Ann")
    exempt = TenantFactory(display_name="Ann", dunning_exempt=True)
    monkeypatch.setattr(admin_lists, "COUNTED", 2)

    rows = found(admin_client, "tenants_tenant", q="Ann", dunning_exempt__exact=1)

    assert list(rows.result_list) == [exempt]


def test_search_for_two_letters_finds_the_start_only(admin_client):
    RelayFactory(subdomain="bluebirds")
    RelayFactory(subdomain="rebuild")

    assert relays_found(admin_client, "bl") == ["bluebirds"]


def test_search_finds_a_relay_by_its_tenants_name(admin_client):
    RelayFactory(subdomain="hers", tenant=TenantFactory(display_name="Ann Smith"))
    RelayFactory(subdomain="his")

    assert relays_found(admin_client, "smith ann") == ["hers"]


def test_search_finds_an_event_by_the_start_of_its_id(admin_client):
    event = StripeEventFactory(id="evt_123456")
    StripeEventFactory(id="evt_999")

    rows = found(admin_client, "billing_stripeevent", q="evt_1234").result_list

    assert list(rows) == [event]


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", "\0"], ids=ascii)
def test_search_takes_no_pattern(admin_client, text):
    StripeEventFactory(id="evt_1")

    page = admin_client.get(
        reverse("admin:billing_stripeevent_changelist"), {"q": f"{text}vt"}
    )

    assert page.status_code == 200
    assert page.context["cl"].result_count == 0 or text == "\0"


def test_filter_offers_the_values_that_a_column_has(admin_client):
    for type in ("b.paid", "a.created", "b.paid", "c.voided"):
        StripeEventFactory(type=type)

    page = found(admin_client, "billing_stripeevent")

    (by_type,) = (spec for spec in page.filter_specs if spec.title == "type")
    names = [choice["display"] for choice in by_type.choices(page)]
    assert names[1:] == ["a.created", "b.paid", "c.voided"]
    one = found(admin_client, "billing_stripeevent", type="b.paid")
    assert one.result_count == 2


def test_filter_by_time_offers_each_month_of_the_last_year(admin_client):
    with time_machine.travel("2026-03-31T12:00Z", tick=False):
        for day in ("2025-11-30T23:59Z", "2025-12-01T00:00Z", "2026-01-01T00:00Z"):
            StripeEventFactory(id=f"evt_{day}", received_at=day)
        page = found(admin_client, "billing_stripeevent")
        (by_time,) = (each for each in page.filter_specs if "received" in each.title)
        choices = {each["display"]: each for each in by_time.choices(page)}

        december = dict(parse_qsl(choices["December 2025"]["query_string"][1:]))
        rows = found(admin_client, "billing_stripeevent", **december).result_list

    assert list(choices)[5::11] == ["February 2026", "March 2025"]
    assert [event.pk for event in rows] == ["evt_2025-12-01T00:00Z"]


def test_tenants_are_listed_with_their_active_relays(admin_client):
    tenant = TenantFactory()
    RelayFactory.create_batch(2, tenant=tenant)
    RelayFactory(tenant=tenant, status="inactive")
    TenantFactory()

    rows = found(admin_client, "tenants_tenant").result_list

    assert {row.pk: row.active_relays for row in rows}[tenant.pk] == 2
    assert sorted(row.active_relays for row in rows) == [0, 2]


def test_every_claim_of_work_has_an_index():
    """Each work item's due rows are found among those that are not finished."""
    from django.apps import apps

    from caravel.core.db.work_items import WorkItem

    items = [model for model in apps.get_models() if issubclass(model, WorkItem)]
    without = [
        model.__name__
        for model in items
        if not any(
            "next_attempt_at" in index.fields and index.condition is not None
            for index in model._meta.indexes
        )
    ]
    assert {Notice, Tenant} & set(items) == {Notice}
    # Of reconciliations a hundred are kept.
    assert without == ["ReconciliationRun"]
