"""Tenant accounts over the API: open, read, update, list; query and body errors."""

import json
import secrets
from base64 import b64encode
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.db.models.signals import post_save
from django.test import Client

from api.tests.support.client import ApiClient
from billing.tests.factories import InvoiceCollectionFactory
from caravel.core.web.throttling import concurrency_limit
from caravel.nostr import npub
from lightning.services import wallets as wallets_service
from relays.tests.factories import RelayFactory
from sandbox.wallets.connections import Terms
from tenants.models import Activity, Tenant
from tenants.services.tenants import set_wallet
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_identity_request_creates_no_tenant(settings):
    caller = ApiClient()

    response = caller.get("/api/identity")

    assert response.data == {
        "pubkey": caller.pubkey,
        "npub": npub(caller.pubkey),
        "is_admin": False,
        "is_tenant": False,
    }
    assert not Tenant.objects.exists()


def test_account_is_opened_once():
    caller = ApiClient()

    first, second = caller.post("/api/tenants"), caller.post("/api/tenants", {})

    assert (first.status, second.status) == (201, 200)
    assert first.data == second.data
    assert first.data["pubkey"] == caller.pubkey
    assert first.data["wallet"] == {
        "connected": False,
        "alias": "",
        "host": "",
        "error": "",
    }
    assert caller.get("/api/identity").data["is_tenant"]
    assert Activity.objects.count() == 1


def test_tenant_is_found_by_hex_and_by_npub(ann):
    by_hex = ann.get(f"/api/tenants/{ann.pubkey}")
    by_npub = ann.get(f"/api/tenants/{npub(ann.pubkey)}")

    assert by_hex.data == by_npub.data


@pytest.mark.parametrize(
    "name", ["0" * 64, "npub1x", "%00", "nsec1abc", "é", "a" * 500]
)
def test_invalid_or_unknown_pubkey_is_not_found(ann, name):
    assert ann.get(f"/api/tenants/{name}").error in {
        (404, "tenant-not-found"),
        (
            401,
            "auth-wrong-url",
        ),  # Django normalizes the URL, so it is not the signed one
    }


def test_other_tenants_are_not_found(ann, ben, admin):
    path = f"/api/tenants/{ben.pubkey}"

    for method, data in (("GET", None), ("PATCH", {"email": "x@example.com"})):
        assert ann.call(method, path, data).error == (404, "tenant-not-found")

    assert admin.get(path).data["pubkey"] == ben.pubkey


def test_tenant_updates_its_own_fields(ann, tenant):
    changes = {
        "email": "ann@example.com",
        "autopay_paused": True,
        "payment_notices": True,
        "time_zone": "Europe/Berlin",
    }

    response = ann.patch(f"/api/tenants/{ann.pubkey}", changes)

    assert response.data["email"] == "ann@example.com"
    assert response.data["email_confirmed"] is False
    assert response.data["payment_notices"] is True
    assert response.data["time_zone"] == "Europe/Berlin"
    assert response.data["autopay_paused"] is True
    tenant.refresh_from_db()
    assert (tenant.email, tenant.autopay_paused) == ("ann@example.com", True)


def test_only_an_operator_sets_dunning_exempt(ann, admin, tenant):
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
        ({"time_zone": "Mars/Olympus"}, "time-zone-invalid"),
        ({"time_zone": "../../etc/passwd"}, "time-zone-invalid"),
        ({"payment_notices": "often"}, "payment-notices-invalid"),
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
def test_invalid_body_is_refused_and_changes_nothing(ann, tenant, body, code):
    response = ann.patch(f"/api/tenants/{ann.pubkey}", body)

    assert response.error == (422, code)
    before = {k: str(v) for k, v in vars(tenant).items() if not k.startswith("_")}
    tenant.refresh_from_db()
    assert before == {k: str(v) for k, v in vars(tenant).items() if k[0] != "_"}
    assert Activity.objects.count() == 1


def test_wallet_is_checked_and_connected_and_its_secret_is_never_returned(ann, wallets):
    wallet = wallets.create("ann", balance_msat=10**9)
    path = f"/api/tenants/{ann.pubkey}"

    response = ann.patch(path, {"nwc_url": wallet.url})

    connection = response.data["wallet"]
    assert connection["connected"] and connection["error"] == ""
    assert connection["alias"]
    assert "127.0.0.1" in connection["host"]
    secret = wallet.url.partition("secret=")[2].partition("&")[0]
    for each in (response, ann.get(path)):
        assert secret not in json.dumps(each.body)
    assert ann.patch(path, {"nwc_url": ""}).data["wallet"]["connected"] is False


def test_unusable_wallet_changes_nothing(ann, tenant, wallets):
    wallet = wallets.create("ann", terms=Terms(read_only=True))

    response = ann.patch(
        f"/api/tenants/{ann.pubkey}", {"nwc_url": wallet.url, "email": "a@example.com"}
    )

    assert response.error == (422, "wallet-cannot-pay")
    tenant.refresh_from_db()
    assert (bool(tenant.nwc_url), tenant.email) == (False, "")


def test_new_wallet_is_not_charged_when_autopay_is_paused_in_the_same_request(
    ann, tenant, wallets
):
    wallet = wallets.create("ann", balance_msat=10**9)
    paused = []

    def record_autopay_paused(update_fields: Any, **kwargs: Any) -> None:
        if "nwc_url" in update_fields:
            paused.append(Tenant.objects.get(pk=tenant.pk).autopay_paused)

    changes = {"nwc_url": wallet.url, "autopay_paused": True}
    post_save.connect(record_autopay_paused, sender=Tenant)
    try:
        response = ann.patch(f"/api/tenants/{ann.pubkey}", changes)
    finally:
        post_save.disconnect(record_autopay_paused, sender=Tenant)

    assert response.data["wallet"]["connected"]
    assert paused == [True]


def test_wallet_is_not_checked_while_others_fill_half_of_all_slots(ann, wallets):
    wallet = wallets.create("ann")
    with ExitStack() as slots:
        for _ in range(settings.SLOW_REQUESTS // 2):
            slots.enter_context(concurrency_limit("unverified wallets"))

        response = ann.patch(f"/api/tenants/{ann.pubkey}", {"nwc_url": wallet.url})

    assert response.error == (503, "busy")
    assert wallet.requests("get_info") == []


def test_one_caller_checks_one_wallet_at_once_and_another_caller_the_next(
    ann, wallets, monkeypatch
):
    """Its wallets answer so late that they would hold the places of all."""
    checks: list[object] = []

    def check_again(*, uri, check=wallets_service.check_wallet):
        if not checks:
            checks.append(uri)
            response = ann.patch(f"/api/tenants/{ann.pubkey}", {"nwc_url": url})
            checks.append(response.error)
            names = {"exclusive": ["unverified wallets of key ben"]}
            with concurrency_limit("unverified wallets", **names):
                checks.append("ben")
        return check(uri=uri)

    monkeypatch.setattr(wallets_service, "check_wallet", check_again)
    url = wallets.create("ann").url

    ann.patch(f"/api/tenants/{ann.pubkey}", {"nwc_url": url})

    assert checks[1:] == [(503, "busy"), "ben"]


def test_tenant_with_an_unpaid_invoice_has_a_payment_url(ann, tenant):
    collection = InvoiceCollectionFactory(tenant=tenant)

    url = ann.get(f"/api/tenants/{ann.pubkey}").data["payment_url"]

    assert url.startswith("http://localhost:8000/pay/")
    assert collection.pk in url


def test_tenant_activity_is_listed_newest_first(ann, tenant):
    RelayFactory(tenant=tenant)
    set_wallet(pubkey=tenant.pk, nwc_url="")
    path = f"/api/tenants/{ann.pubkey}/activity"

    log = ann.get(path).data

    assert [row["type"] for row in log] == ["update_tenant", "create_tenant"]
    assert log[0]["snapshot"] == {"wallet": "disconnected"}
    assert [row["id"] for row in ann.get(f"{path}?order=id").data] == sorted(
        row["id"] for row in log
    )
    filtered = ann.get(f"{path}?type=create_tenant").data
    assert [row["type"] for row in filtered] == ["create_tenant"]


def test_operator_filters_tenants(admin, ann, ben):
    Tenant.objects.filter(pk=ben.pubkey).update(
        closed_at="2026-01-01T00:00Z", payment_overdue_since="2026-01-01T00:00Z"
    )

    def pubkeys(query: str) -> set[str]:
        return {row["pubkey"] for row in admin.get(f"/api/tenants?{query}").data}

    assert pubkeys("closed=true") == pubkeys("owing=true") == {ben.pubkey}
    assert pubkeys("closed=false") == pubkeys("owing=0") == {ann.pubkey}
    assert pubkeys("order=-created_at") == {ann.pubkey, ben.pubkey}


def test_listing_100_tenants_needs_no_more_queries_than_one(
    admin, django_assert_max_num_queries
):
    TenantFactory()
    admin.get("/api/tenants")
    with django_assert_max_num_queries(5) as first_queries:
        admin.get("/api/tenants?limit=100")
    TenantFactory.create_batch(99, nwc_url="nostr+walletconnect://x")

    with django_assert_max_num_queries(len(first_queries)):
        assert len(admin.get("/api/tenants?limit=100").data) == 100


def test_pages_contain_every_tenant_once(admin):
    expected = {tenant.pk for tenant in TenantFactory.create_batch(25)}
    seen, path = [], "/api/tenants?limit=10&order=-created_at"
    while path:
        response = admin.get(path)
        seen += [row["pubkey"] for row in response.data]
        next_url = response.body["next"]
        path = next_url and next_url.removeprefix("http://localhost:8000")

    assert len(seen) == 25
    assert set(seen) == expected


def cursor_at(position: str) -> str:
    return quote(b64encode(urlencode({"p": position}).encode()))


def test_cursor_with_another_utc_offset_is_accepted(admin):
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
def test_invalid_query_is_refused(admin, query, code):
    TenantFactory()

    assert admin.get(f"/api/tenants?{query}").error == (400, code)


def test_requests_are_throttled_per_key(ann, settings):
    settings.API_RATE_PER_KEY = "3/minute"

    responses = [ann.get("/api/identity") for _ in range(4)]

    assert [response.status for response in responses] == [200, 200, 200, 429]
    assert responses[-1].error == (429, "throttled")
    assert 0 < int(responses[-1].headers["Retry-After"]) <= 60
    assert ApiClient().get("/api/identity").status == 200


def test_requests_are_throttled_per_address(ann, settings):
    settings.API_RATE_PER_ADDRESS = "3/minute"

    statuses = [ApiClient().get("/api/identity").status for _ in range(4)]

    assert statuses == [200, 200, 200, 429]


def test_costly_methods_have_a_lower_rate_limit(ann, settings):
    settings.API_RATE_COSTLY = "2/minute"
    path = f"/api/tenants/{ann.pubkey}"

    statuses = [ann.patch(path, {"email": ""}).status for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert ann.get(path).status == 200


def test_too_large_body_is_refused(ann):
    path = f"/api/tenants/{ann.pubkey}"

    response = ann.patch(path, {"email": "x" * 1_100_000})

    assert response.error == (413, "body-too-large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"email": NaN}'])
def test_body_that_is_not_json_is_refused(ann, body):
    path = f"/api/tenants/{ann.pubkey}"

    assert ann.send("PATCH", path, body).error == (400, "parse-error")


def test_one_address_opens_only_so_many_accounts(settings, ann):
    settings.NEW_TENANT_RATE = "3/hour"
    settings.TRUSTED_PROXIES = 1
    network = f"2001:db8:{secrets.token_hex(2)}"
    count = Tenant.objects.count()

    answers = [_caller_at(f"{network}::1").post("/api/tenants") for _ in range(5)]

    assert [answer.status for answer in answers] == [201] * 3 + [429] * 2
    assert answers[-1].error == (429, "new-tenant-quota")
    assert "ask support" in answers[-1].body["error"]
    assert Tenant.objects.count() == count + 3
    # Those that have an account are not held up by others at their address.
    ann.client = Client(HTTP_X_FORWARDED_FOR=f"{network}::1")
    assert ann.post("/api/tenants").status == 200
    assert _caller_at(f"{network}:1::1").post("/api/tenants").status == 201


def test_one_ipv6_site_opens_only_ten_times_as_many_accounts(settings):
    settings.NEW_TENANT_RATE = "1/hour"
    settings.TRUSTED_PROXIES = 1
    site = f"2001:db8:{secrets.token_hex(2)}"

    # A site has 65,536 networks: https://www.rfc-editor.org/rfc/rfc6177
    answers = [_caller_at(f"{site}:{n}::1").post("/api/tenants") for n in range(12)]

    assert [answer.status for answer in answers] == [201] * 10 + [429] * 2
    assert answers[-1].error == (429, "new-tenant-quota")


def _caller_at(address: str) -> ApiClient:
    return ApiClient(client=Client(HTTP_X_FORWARDED_FOR=address))


def test_tenant_sets_and_clears_its_name(ann, tenant):
    path = f"/api/tenants/{ann.pubkey}"

    assert ann.patch(path, {"display_name": "Ann's birds"}).data["display_name"] == (
        "Ann's birds"
    )
    assert ann.patch(path, {"display_name": ""}).data["display_name"] == ""


@pytest.mark.parametrize("name", ["two\nlines", "\u202etxt.exe", "bell\x07", "x" * 101])
def test_name_that_could_pass_for_other_text_is_refused(ann, tenant, name):
    refusal = ann.patch(f"/api/tenants/{ann.pubkey}", {"display_name": name})

    assert refusal.error == (422, "display-name-invalid")


def test_tenant_closes_its_account_once(ann, ben, tenant):
    relay = RelayFactory(tenant=tenant)
    path = f"/api/tenants/{ann.pubkey}"
    assert ben.post(f"{path}/close").error == (404, "tenant-not-found")

    assert ann.post(f"{path}/close").data["closed_at"]

    relay.refresh_from_db()
    assert relay.status == "inactive"
    assert ann.post(f"{path}/close").error == (409, "tenant-closed")
    body = {"subdomain": "more", "plan": "free"}
    assert ann.post("/api/relays", body).error == (409, "tenant-closed")
    assert ann.get(path).status == 200
