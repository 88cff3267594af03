"""Callers who try what no program of goodwill would."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from api.tests.support.client import Answer, Person, call
from caravel.nostr.http_auth import authorization
from relays.models import Relay
from relays.tests.factories import RelayFactory
from tenants.models import Tenant, UsedAuthEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def birds(tenant) -> Relay:
    """Ann's relay."""
    return RelayFactory(tenant=tenant, subdomain="birds", name="Ann's birds")


def signed(person: Person, method: str, path: str, body: bytes = b"") -> dict[str, str]:
    url = django_settings.APP_URL + path
    header = authorization(person.key, url=url, method=method, body=body)
    return {"Authorization": header}


# --- whose request it is


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
)
def test_the_method_is_the_one_that_is_used(ann, name):
    path = f"/api/tenants/{ann.pubkey}"
    body = b'{"email": "eve@example.com"}'
    headers = {**signed(ann, "PATCH", path, body), name: "PATCH"}

    answer = call(Client(), "POST", path, body, headers)

    assert answer.error == (401, "auth-wrong-method")
    assert Tenant.objects.get().email == ""


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-URI"])
def test_the_address_is_the_one_that_is_used(ann, ben, name):
    other = f"/api/tenants/{ben.pubkey}"
    headers = {**signed(ann, "GET", "/api/identity"), name: other}

    answer = call(Client(), "GET", "/api/identity", headers=headers)

    assert answer.data["pubkey"] == ann.pubkey
    assert call(Client(), "GET", other, headers=headers).status == 401


@pytest.mark.parametrize(
    "given",
    [
        {"HTTP_X_FORWARDED_HOST": "evil.example"},
        {"HTTP_X_FORWARDED_PREFIX": "/evil"},
        {"HTTP_HOST": "testserver"},
        {"HTTP_REMOTE_USER": "admin"},
        {"HTTP_COOKIE": "sessionid=x; csrftoken=y"},
    ],
)
def test_proxies_and_cookies_say_nothing_of_who_calls(ann, given):
    path = "/api/identity"
    header = signed(ann, "GET", path)["Authorization"]
    good = Client().get(path, HTTP_AUTHORIZATION=header, **given)

    assert good.json()["data"]["pubkey"] == ann.pubkey
    assert Client().get(path, **given).status_code == 401


def test_where_it_is_mounted_is_signed_too(ann):
    header = signed(ann, "GET", "/api/identity")["Authorization"]

    answer = Client().get(
        "/api/identity", HTTP_AUTHORIZATION=header, SCRIPT_NAME="/evil"
    )

    assert answer.json()["code"] == "auth-wrong-url"


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
def test_another_spelling_of_an_address_leads_to_nobody(ann, ben, path):
    address = path.format(ben.pubkey, ann.pubkey)

    answer = Client().get(address, headers=signed(ann, "GET", address))

    assert answer.status_code in {401, 404}
    assert b"npub" not in answer.content


def test_who_signed_to_read_has_not_signed_to_look(ann, birds):
    path = f"/api/relays/{birds.pk}"
    head = Client().head(path, headers=signed(ann, "HEAD", path))
    other = Client().head(path, headers=signed(Person(), "HEAD", path))
    wrong = Client().head(path, headers=signed(ann, "GET", path))

    assert [each.status_code for each in (head, other, wrong)] == [200, 404, 401]
    assert {each.content for each in (head, other, wrong)} == {b""}


def test_the_tenants_are_not_counted_by_looking_either(ann):
    headers = signed(ann, "HEAD", "/api/tenants")

    assert Client().head("/api/tenants", headers=headers).status_code == 403


# --- from a browser


def test_pages_of_known_origins_may_call_and_no_others(settings, ann):
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

    known, unknown = preflight("https://app.example"), preflight("https://evil.example")
    assert known["Access-Control-Allow-Origin"] == "https://app.example"
    assert "authorization" in known["Access-Control-Allow-Headers"]
    for answer in (known, unknown, preflight("null")):
        assert "Access-Control-Allow-Credentials" not in answer
    assert "Access-Control-Allow-Origin" not in unknown
    assert "Access-Control-Allow-Origin" not in preflight("null")


def test_asking_what_may_be_done_needs_a_signature_as_well(ann):
    assert call(Client(), "OPTIONS", "/api/tenants").error == (401, "auth-missing")
    assert ann.call("OPTIONS", "/api/tenants").error == (405, "method-not-allowed")


def test_no_cache_keeps_and_no_browser_guesses_what_is_told(ann, birds):
    answers = [
        ann.get(f"/api/relays/{birds.pk}"),
        ann.get("/api/relays"),
        Person().get(f"/api/relays/{birds.pk}"),
        call(Client(), "GET", "/api/relays"),
        call(Client(), "GET", "/api/nothing"),
    ]

    assert [answer.status for answer in answers] == [200, 200, 404, 401, 404]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store, private"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/json"


# --- what is sent


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
def test_of_a_relay_only_what_is_described_can_be_set(ann, ben, birds, name, value):
    before = Relay.objects.values().get()

    answer = ann.patch(f"/api/relays/{birds.pk}", {"name": "x", name: value})

    assert answer.error == (422, "field-unknown")
    assert Relay.objects.values().get() == before


@pytest.mark.parametrize(
    "name",
    [
        "pubkey",
        "nwc_error",
        "wallet_alias",
        "display_name",
        "stripe_customer_id",
        "past_due_at",
        "payment_overdue_since",
        "closed_at",
    ],
)
def test_of_an_account_only_what_is_described_can_be_set(ann, name):
    before = Tenant.objects.values().get()

    answer = ann.patch(f"/api/tenants/{ann.pubkey}", {"email": "", name: "x"})

    assert answer.error == (422, "field-unknown")
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
def test_whatever_a_body_is_called_it_is_json_or_nothing(ann, content_type):
    path = f"/api/tenants/{ann.pubkey}"

    def send(body: bytes) -> tuple[int, str]:
        answer = Client().generic(
            "PATCH",
            path,
            body,
            content_type=content_type,
            headers=signed(ann, "PATCH", path, body),
        )
        return answer.status_code, answer.json()["code"]

    assert send(b'{"email": "ann@example.com"}') == (200, "ok")
    assert send(b"email=eve@example.com") == (400, "parse-error")
    assert send(b"--x\r\n\r\n\r\n--x--") == (400, "parse-error")
    assert Tenant.objects.get().email == "ann@example.com"


def test_a_query_beside_a_body_is_not_overlooked(ann, birds):
    for method, path in [
        ("POST", "/api/tenants?dry_run=1"),
        ("PATCH", f"/api/tenants/{ann.pubkey}?email=x"),
        ("POST", f"/api/relays/{birds.pk}/deactivate?dry_run=1"),
    ]:
        assert ann.call(method, path, {}).error == (400, "parameter-unknown")
    birds.refresh_from_db()
    assert birds.status == "active"


def test_a_query_of_far_too_many_parameters(ann):
    query = "&".join(f"x{number}=1" for number in range(1_001))

    assert ann.get(f"/api/relays?{query}").error == (400, "parameter-unknown")


def test_a_page_of_ones_own_list_is_never_of_anothers(ann, ben):
    for person in (ann, ben):
        for number in range(3):
            subdomain = f"{number}-{person.pubkey[:8]}"
            RelayFactory(tenant_id=person.pubkey, subdomain=subdomain)
    following = ann.get("/api/relays?limit=1&order=subdomain").body["next"]
    path = following.removeprefix(django_settings.APP_URL)

    rows = ben.get(path.replace("limit=1", "limit=9")).data

    assert rows
    assert {row["tenant"] for row in rows} == {ben.pubkey}


def test_who_is_turned_away_leaves_no_trace(ann, settings):
    settings.API_RATE_PER_ADDRESS = "2/hour"

    answers = [ann.get("/api/identity") for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert UsedAuthEvent.objects.count() == 2


# --- at once


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_of_those_who_want_a_name_at_once_one_gets_it(ann, ben):
    barrier = Barrier(6)

    def create(number: int) -> Answer:
        person = (ann, ben)[number % 2]
        caller = Person(key=person.key)
        barrier.wait()
        try:
            return caller.post("/api/relays", {"subdomain": "birds", "plan": "free"})
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(create, range(6)))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 5
    refused = [answer for answer in answers if answer.status == 409]
    assert {answer.body["code"] for answer in refused} == {"subdomain-exists"}
    assert Relay.objects.count() == 1


# --- while something is away


def test_without_redis_everything_works_uncounted(ann, settings):
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    settings.API_RATE_PER_KEY = "1/hour"

    made = ann.post("/api/relays", {"subdomain": "birds", "plan": "free"})

    assert made.status == 201
    assert [ann.get("/api/relays").status for _ in range(3)] == [200] * 3


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_without_the_database_it_is_said_so(ann, caplog):
    given = connection.settings_dict["HOST"]
    connection.close()
    connection.settings_dict["HOST"] = "/nowhere"
    try:
        answers = [
            ann.get("/api/identity"),
            ann.patch(f"/api/tenants/{ann.pubkey}", {"email": ""}),
            call(Client(), "GET", "/api/plans"),
        ]
        unsigned = call(Client(), "GET", "/api/identity")
    finally:
        connection.close()
        connection.settings_dict["HOST"] = given

    for answer in answers:
        assert answer.error == (503, "unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert "nowhere" not in answer.body["error"]
    assert unsigned.error == (401, "auth-missing")
    assert "database_unavailable" in caplog.text
