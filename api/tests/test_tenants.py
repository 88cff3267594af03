"""An account over the API: opening it, reading it, changing it."""

import json
from base64 import b64encode
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.db.models.signals import post_save

from api.tests.support.client import Person
from billing.tests.factories import InvoiceCollectionFactory
from caravel.core.web.throttling import concurrency_limit
from caravel.nostr import npub
from relays.tests.factories import RelayFactory
from sandbox.wallets.budgets import Terms
from tenants.models import Activity, Tenant
from tenants.services.tenants import set_wallet
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_who_am_i_creates_nothing(settings):
    person = Person()

    answer = person.get("/api/identity")

    assert answer.data == {
        "pubkey": person.pubkey,
        "npub": npub(person.pubkey),
        "is_admin": False,
        "is_tenant": False,
    }
    assert not Tenant.objects.exists()


def test_an_account_is_opened_once():
    person = Person()

    first, second = person.post("/api/tenants"), person.post("/api/tenants", {})

    assert (first.status, second.status) == (201, 200)
    assert first.data == second.data
    assert first.data["pubkey"] == person.pubkey
    assert first.data["wallet"] == {
        "connected": False,
        "alias": "",
        "host": "",
        "error": "",
    }
    assert person.get("/api/identity").data["is_tenant"]
    assert Activity.objects.count() == 1


def test_an_account_is_found_by_either_spelling(ann):
    by_hex = ann.get(f"/api/tenants/{ann.pubkey}")
    by_npub = ann.get(f"/api/tenants/{npub(ann.pubkey)}")

    assert by_hex.data == by_npub.data


@pytest.mark.parametrize(
    "name", ["0" * 64, "npub1x", "%00", "nsec1abc", "é", "a" * 500]
)
def test_what_is_nobody_is_not_found(ann, name):
    assert ann.get(f"/api/tenants/{name}").error in {
        (404, "tenant-not-found"),
        (401, "auth-wrong-url"),  # spelt otherwise than it is signed
    }


def test_others_do_not_exist(ann, ben, admin):
    path = f"/api/tenants/{ben.pubkey}"

    for method, data in (("GET", None), ("PATCH", {"email": "x@example.com"})):
        assert ann.call(method, path, data).error == (404, "tenant-not-found")

    assert admin.get(path).data["pubkey"] == ben.pubkey


def test_a_tenant_changes_what_is_its_own(ann, tenant):
    changes = {"email": "ann@example.com", "autopay_paused": True}

    answer = ann.patch(f"/api/tenants/{ann.pubkey}", changes)

    assert answer.data["email"] == "ann@example.com"
    assert answer.data["autopay_paused"] is True
    tenant.refresh_from_db()
    assert (tenant.email, tenant.autopay_paused) == ("ann@example.com", True)


def test_only_an_operator_exempts_from_dunning(ann, admin, tenant):
    path, change = f"/api/tenants/{ann.pubkey}", {"dunning_exempt": True}

    assert ann.patch(path, change).error == (403, "field-forbidden")
    tenant.refresh_from_db()
    assert not tenant.dunning_exempt

    assert admin.patch(path, change).data["dunning_exempt"] is True


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"email": "no address"}, "email-invalid"),
        ({"email": None}, "email-invalid"),
        ({"email": "a\0@example.com"}, "email-invalid"),
        ({"email": ["x"]}, "email-invalid"),
        ({"autopay_paused": "perhaps"}, "autopay-paused-invalid"),
        ({"nwc_url": 7.5}, "nwc-url-invalid"),
        ({"nwc_url": "https://example.com"}, "nwc-url-invalid"),
        ({"nwc_url": "\ud800"}, "nwc-url-invalid"),
        ({"nwc_url": "x" * 3000}, "nwc-url-invalid"),
        ({"pubkey": "0" * 64}, "field-unknown"),
        ({"payment_overdue_since": None}, "field-unknown"),
        ([], "invalid"),
        ("text", "invalid"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(ann, tenant, body, code):
    answer = ann.patch(f"/api/tenants/{ann.pubkey}", body)

    assert answer.error == (422, code)
    before = {k: str(v) for k, v in vars(tenant).items() if not k.startswith("_")}
    tenant.refresh_from_db()
    assert before == {k: str(v) for k, v in vars(tenant).items() if k[0] != "_"}
    assert Activity.objects.count() == 1


def test_a_wallet_is_checked_taken_and_never_told(ann, wallets):
    wallet = wallets.create("ann", balance_msat=10**9)
    path = f"/api/tenants/{ann.pubkey}"

    answer = ann.patch(path, {"nwc_url": wallet.url})

    told = answer.data["wallet"]
    assert told["connected"] and told["error"] == ""
    assert told["alias"]
    assert "127.0.0.1" in told["host"]
    secret = wallet.url.partition("secret=")[2].partition("&")[0]
    for shown in (answer, ann.get(path)):
        assert secret not in json.dumps(shown.body)
    assert ann.patch(path, {"nwc_url": ""}).data["wallet"]["connected"] is False


def test_an_unusable_wallet_changes_nothing(ann, tenant, wallets):
    wallet = wallets.create("ann", terms=Terms(read_only=True))

    answer = ann.patch(
        f"/api/tenants/{ann.pubkey}", {"nwc_url": wallet.url, "email": "a@example.com"}
    )

    assert answer.error == (422, "wallet-cannot-pay")
    tenant.refresh_from_db()
    assert (bool(tenant.nwc_url), tenant.email) == (False, "")


def test_who_pauses_payments_with_a_new_wallet_is_not_charged(ann, tenant, wallets):
    wallet = wallets.create("ann", balance_msat=10**9)
    paused = []

    def look(update_fields: Any, **kwargs: Any) -> None:
        if "nwc_url" in update_fields:
            paused.append(Tenant.objects.get(pk=tenant.pk).autopay_paused)

    changes = {"nwc_url": wallet.url, "autopay_paused": True}
    post_save.connect(look, sender=Tenant)
    try:
        answer = ann.patch(f"/api/tenants/{ann.pubkey}", changes)
    finally:
        post_save.disconnect(look, sender=Tenant)

    assert answer.data["wallet"]["connected"]
    assert paused == [True]


def test_with_many_strangers_being_waited_for_no_other_wallet_is_asked(ann, wallets):
    wallet = wallets.create("ann")
    with ExitStack() as taken:
        for _ in range(settings.SLOW_REQUESTS // 2):
            taken.enter_context(concurrency_limit("strangers"))

        answer = ann.patch(f"/api/tenants/{ann.pubkey}", {"nwc_url": wallet.url})

    assert answer.error == (503, "busy")
    assert wallet.requests("get_info") == []


def test_where_to_pay_is_told_to_who_owes(ann, tenant):
    collection = InvoiceCollectionFactory(tenant=tenant)

    url = ann.get(f"/api/tenants/{ann.pubkey}").data["payment_url"]

    assert url.startswith("http://localhost:8000/pay/")
    assert collection.pk in url


def test_the_log_of_an_account_is_read_backwards(ann, tenant):
    RelayFactory(tenant=tenant)
    set_wallet(pubkey=tenant.pk, nwc_url="")
    path = f"/api/tenants/{ann.pubkey}/activity"

    log = ann.get(path).data

    assert [row["type"] for row in log] == ["update_tenant", "create_tenant"]
    assert log[0]["snapshot"] == {"wallet": "disconnected"}
    assert [row["id"] for row in ann.get(f"{path}?order=id").data] == sorted(
        row["id"] for row in log
    )
    kept = ann.get(f"{path}?type=create_tenant").data
    assert [row["type"] for row in kept] == ["create_tenant"]


def test_operators_filter_the_tenants(admin, ann, ben):
    Tenant.objects.filter(pk=ben.pubkey).update(
        closed_at="2026-01-01T00:00Z", payment_overdue_since="2026-01-01T00:00Z"
    )

    def found(query: str) -> set[str]:
        return {row["pubkey"] for row in admin.get(f"/api/tenants?{query}").data}

    assert found("closed=true") == found("owing=true") == {ben.pubkey}
    assert found("closed=false") == found("owing=0") == {ann.pubkey}
    assert found("order=-created_at") == {ann.pubkey, ben.pubkey}


def test_a_hundred_tenants_cost_as_many_queries_as_one(
    admin, django_assert_max_num_queries
):
    TenantFactory()
    admin.get("/api/tenants")
    with django_assert_max_num_queries(5) as few:
        admin.get("/api/tenants?limit=100")
    TenantFactory.create_batch(99, nwc_url="nostr+walletconnect://x")

    with django_assert_max_num_queries(len(few)):
        assert len(admin.get("/api/tenants?limit=100").data) == 100


def test_pages_lead_through_all_and_each_is_seen_once(admin):
    made = {tenant.pk for tenant in TenantFactory.create_batch(25)}
    seen, path = [], "/api/tenants?limit=10&order=-created_at"
    while path:
        answer = admin.get(path)
        seen += [row["pubkey"] for row in answer.data]
        following = answer.body["next"]
        path = following and following.removeprefix("http://localhost:8000")

    assert len(seen) == 25
    assert set(seen) == made


def cursor_at(position: str) -> str:
    return quote(b64encode(urlencode({"p": position}).encode()))


def test_a_cursor_of_another_offset_leads_on(admin):
    TenantFactory()
    path = f"/api/tenants?cursor={cursor_at('2026-01-01T00:00:00+23:59')}"

    assert len(admin.get(path).data) == 1


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "parameter-invalid"),
        ("limit=101", "parameter-invalid"),
        ("limit=x", "parameter-invalid"),
        ("limit=", "parameter-invalid"),
        ("order=pubkey", "parameter-invalid"),
        ("closed=perhaps", "parameter-invalid"),
        ("status=active", "parameter-unknown"),
        ("cursor=x", "cursor-invalid"),
        ("cursor=%00", "parameter-invalid"),
        ("cursor=cD14", "cursor-invalid"),
        *(
            (f"cursor={cursor_at(position)}", "cursor-invalid")
            for position in (
                "9999-12-31T23:59:59-23:59",
                "0001-01-01T00:00:00+23:59",
                "infinity",
                "1",
                "\0",
            )
        ),
    ],
)
def test_a_query_that_cannot_be(admin, query, code):
    TenantFactory()

    assert admin.get(f"/api/tenants?{query}").error == (400, code)


def test_one_key_cannot_have_everything(ann, settings):
    settings.API_RATE_PER_KEY = "3/minute"

    answers = [ann.get("/api/identity") for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].error == (429, "throttled")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert Person().get("/api/identity").status == 200


def test_one_address_cannot_have_everything(ann, settings):
    settings.API_RATE_PER_ADDRESS = "3/minute"

    statuses = [Person().get("/api/identity").status for _ in range(4)]

    assert statuses == [200, 200, 200, 429]


def test_what_makes_us_ask_others_is_dearer(ann, settings):
    settings.API_RATE_COSTLY = "2/minute"
    path = f"/api/tenants/{ann.pubkey}"

    statuses = [ann.patch(path, {"email": ""}).status for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert ann.get(path).status == 200


def test_a_body_that_is_too_long(ann):
    path = f"/api/tenants/{ann.pubkey}"

    answer = ann.patch(path, {"email": "x" * 1_100_000})

    assert answer.error == (413, "body-too-large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"email": NaN}'])
def test_a_body_that_is_no_json(ann, body):
    path = f"/api/tenants/{ann.pubkey}"

    assert ann.send("PATCH", path, body).error == (400, "parse-error")
