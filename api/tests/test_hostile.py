"""Attacks: forged headers, URL tricks, unexpected bodies, races, outages."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from api.tests.support.client import ApiClient, ApiResponse, call
from caravel.nostr.http_auth import authorization
from relays.models import Relay
from relays.tests.factories import RelayFactory
from tenants.models import Tenant, UsedAuthEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def birds(tenant) -> Relay:
    """Ann's relay."""
    return RelayFactory(tenant=tenant, subdomain="birds", name="Ann's birds")


def signed(
    caller: ApiClient, method: str, path: str, body: bytes = b""
) -> dict[str, str]:
    url = django_settings.APP_URL + path
    header = authorization(caller.key, url=url, method=method, body=body)
    return {"Authorization": header}


# --- authentication


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
)
def test_method_override_headers_are_ignored(ann, name):
    path = f"/api/tenants/{ann.pubkey}"
    body = b'{"email": "eve@example.com"}'
    headers = {**signed(ann, "PATCH", path, body), name: "PATCH"}

    response = call(Client(), "POST", path, body, headers)

    assert response.error == (401, "auth-wrong-method")
    assert Tenant.objects.get().email == ""


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-URI"])
def test_url_override_headers_are_ignored(ann, ben, name):
    other = f"/api/tenants/{ben.pubkey}"
    headers = {**signed(ann, "GET", "/api/identity"), name: other}

    response = call(Client(), "GET", "/api/identity", headers=headers)

    assert response.data["pubkey"] == ann.pubkey
    assert call(Client(), "GET", other, headers=headers).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_X_FORWARDED_HOST": "evil.example"},
        {"HTTP_X_FORWARDED_PREFIX": "/evil"},
        {"HTTP_HOST": "testserver"},
        {"HTTP_REMOTE_USER": "admin"},
        {"HTTP_COOKIE": "sessionid=x; csrftoken=y"},
    ],
)
def test_forwarded_headers_and_cookies_do_not_authenticate(ann, headers):
    path = "/api/identity"
    header = signed(ann, "GET", path)["Authorization"]
    good = Client().get(path, HTTP_AUTHORIZATION=header, **headers)

    assert good.json()["data"]["pubkey"] == ann.pubkey
    assert Client().get(path, **headers).status_code == 401


def test_script_name_is_part_of_the_signed_url(ann):
    header = signed(ann, "GET", "/api/identity")["Authorization"]

    response = Client().get(
        "/api/identity", HTTP_AUTHORIZATION=header, SCRIPT_NAME="/evil"
    )

    assert response.json()["code"] == "auth-wrong-url"


@pytest.mark.parametrize(
    "path",
    [
        "//api/tenants/{0}",
        "/api//tenants/{0}",
        "/api/tenants//{0}",
        "/api/tenants/{0}/",
        "/api/./tenants/{0}",
        "/api/tenants/{1}/../{0}",
        "/api/tenants/{1}%2F..%2F{0}",
        "/api/tenants/{0};x",
        "/api/tenants/{0}%00",
        "/api/tenants/%20{0}",
        "/API/tenants/{0}",
    ],
)
def test_alternative_spelling_of_a_url_reaches_no_tenant(ann, ben, path):
    url = path.format(ben.pubkey, ann.pubkey)

    response = Client().get(url, headers=signed(ann, "GET", url))

    assert response.status_code in {401, 404}
    assert b"npub" not in response.content


def test_head_request_needs_its_own_signature(ann, birds):
    path = f"/api/relays/{birds.pk}"
    head = Client().head(path, headers=signed(ann, "HEAD", path))
    other = Client().head(path, headers=signed(ApiClient(), "HEAD", path))
    wrong = Client().head(path, headers=signed(ann, "GET", path))

    assert [each.status_code for each in (head, other, wrong)] == [200, 404, 401]
    assert {each.content for each in (head, other, wrong)} == {b""}


def test_head_of_the_tenant_list_is_for_operators_only(ann):
    headers = signed(ann, "HEAD", "/api/tenants")

    assert Client().head("/api/tenants", headers=headers).status_code == 403


# --- browsers


def test_only_allowed_origins_pass_preflight(settings, ann):
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]

    def preflight(origin: str) -> Any:
        return Client().options(
            "/api/relays",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )

    allowed, unknown = (
        preflight("https://app.example"),
        preflight("https://evil.example"),
    )
    assert allowed["Access-Control-Allow-Origin"] == "https://app.example"
    assert "authorization" in allowed["Access-Control-Allow-Headers"]
    for response in (allowed, unknown, preflight("null")):
        assert "Access-Control-Allow-Credentials" not in response
    assert "Access-Control-Allow-Origin" not in unknown
    assert "Access-Control-Allow-Origin" not in preflight("null")


def test_options_request_needs_a_signature_and_is_not_allowed(ann):
    assert call(Client(), "OPTIONS", "/api/tenants").error == (401, "auth-missing")
    assert ann.call("OPTIONS", "/api/tenants").error == (405, "method-not-allowed")


def test_responses_forbid_caching_and_sniffing(ann, birds):
    responses = [
        ann.get(f"/api/relays/{birds.pk}"),
        ann.get("/api/relays"),
        ApiClient().get(f"/api/relays/{birds.pk}"),
        call(Client(), "GET", "/api/relays"),
        call(Client(), "GET", "/api/nothing"),
    ]

    assert [response.status for response in responses] == [200, 200, 404, 401, 404]
    for response in responses:
        assert response.headers["Cache-Control"] == "no-store, private"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Type"] == "application/json"


# --- fields, bodies and queries


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", "0" * 64),
        ("id", "0"),
        ("status", "active"),
        ("secret", "0" * 64),
        ("synced", True),
        ("sync_error", ""),
        ("created_at", "2020-01-01T00:00:00Z"),
        ("plan_id", "growth"),
        ("tenant_id", "0" * 64),
    ],
)
def test_undocumented_relay_field_is_refused(ann, ben, birds, name, value):
    before = Relay.objects.values().get()

    response = ann.patch(f"/api/relays/{birds.pk}", {"name": "x", name: value})

    assert response.error == (422, "field-unknown")
    assert Relay.objects.values().get() == before


@pytest.mark.parametrize(
    "name",
    [
        "pubkey",
        "nwc_error",
        "wallet_alias",
        "stripe_customer_id",
        "past_due_at",
        "payment_overdue_since",
        "billing_on_hold_since",
        "closed_at",
    ],
)
def test_undocumented_tenant_field_is_refused(ann, name):
    before = Tenant.objects.values().get()

    response = ann.patch(f"/api/tenants/{ann.pubkey}", {"email": "", name: "x"})

    assert response.error == (422, "field-unknown")
    assert Tenant.objects.values().get() == before


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json; charset=nonsense",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "nonsense",
    ],
)
def test_body_is_parsed_as_json_for_any_content_type(ann, content_type):
    path = f"/api/tenants/{ann.pubkey}"

    def send(body: bytes) -> tuple[int, str]:
        response = Client().generic(
            "PATCH",
            path,
            body,
            content_type=content_type,
            headers=signed(ann, "PATCH", path, body),
        )
        return response.status_code, response.json()["code"]

    assert send(b'{"email": "ann@example.com"}') == (200, "ok")
    assert send(b"email=eve@example.com") == (400, "parse-error")
    assert send(b"--x\r\n\r\n\r\n--x--") == (400, "parse-error")
    assert Tenant.objects.get().email == "ann@example.com"


def test_query_in_a_request_with_a_body_is_refused(ann, birds):
    for method, path in [
        ("POST", "/api/tenants?dry_run=1"),
        ("PATCH", f"/api/tenants/{ann.pubkey}?email=x"),
        ("POST", f"/api/relays/{birds.pk}/deactivate?dry_run=1"),
    ]:
        assert ann.call(method, path, {}).error == (400, "parameter-unknown")
    birds.refresh_from_db()
    assert birds.status == "active"


def test_query_with_too_many_parameters_is_refused(ann):
    query = "&".join(f"x{number}=1" for number in range(1_001))

    assert ann.get(f"/api/relays?{query}").error == (400, "parameter-unknown")


def test_next_url_of_one_tenant_shows_another_only_its_own_relays(ann, ben):
    for caller in (ann, ben):
        for number in range(3):
            subdomain = f"{number}-{caller.pubkey[:8]}"
            RelayFactory(tenant_id=caller.pubkey, subdomain=subdomain)
    next_url = ann.get("/api/relays?limit=1&order=subdomain").body["next"]
    path = next_url.removeprefix(django_settings.APP_URL)

    rows = ben.get(path.replace("limit=1", "limit=9")).data

    assert rows
    assert {row["tenant"] for row in rows} == {ben.pubkey}


def test_throttled_request_stores_no_auth_event(ann, settings):
    settings.API_RATE_PER_ADDRESS = "2/hour"

    responses = [ann.get("/api/identity") for _ in range(4)]

    assert [response.status for response in responses] == [200, 200, 429, 429]
    assert UsedAuthEvent.objects.count() == 2


# --- races


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_concurrent_requests_for_a_subdomain_create_one_relay(ann, ben):
    barrier = Barrier(6, timeout=60)

    def create(number: int) -> ApiResponse:
        caller = ApiClient(key=(ann, ben)[number % 2].key)
        barrier.wait()
        try:
            return caller.post("/api/relays", {"subdomain": "birds", "plan": "free"})
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(create, range(6)))

    assert sorted(response.status for response in responses) == [201] + [409] * 5
    refusal = [response for response in responses if response.status == 409]
    assert {response.body["code"] for response in refusal} == {"subdomain-exists"}
    assert Relay.objects.count() == 1


# --- outages


def test_without_redis_requests_work_without_rate_limits(ann, settings):
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    settings.API_RATE_PER_KEY = "1/hour"

    created = ann.post("/api/relays", {"subdomain": "birds", "plan": "free"})

    assert created.status == 201
    assert [ann.get("/api/relays").status for _ in range(3)] == [200] * 3


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_without_the_database_requests_fail_with_503(ann, caplog):
    host = connection.settings_dict["HOST"]
    connection.close()
    connection.settings_dict["HOST"] = "/nowhere"
    try:
        responses = [
            ann.get("/api/identity"),
            ann.patch(f"/api/tenants/{ann.pubkey}", {"email": ""}),
            call(Client(), "GET", "/api/plans"),
        ]
        unsigned = call(Client(), "GET", "/api/identity")
    finally:
        connection.close()
        connection.settings_dict["HOST"] = host

    for response in responses:
        assert response.error == (503, "unavailable")
        assert response.headers["Retry-After"] == "5"
        assert "nowhere" not in response.body["error"]
    assert unsigned.error == (401, "auth-missing")
    assert "database_unavailable" in caplog.text
