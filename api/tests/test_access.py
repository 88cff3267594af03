"""Who may call what: nobody, unless it is said."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from api.tests.support.client import Person, call
from api.views.base import ApiView
from api.views.tenants import TenantsView
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAdmin, IsAuthenticated
from caravel.nostr.http_auth import authorization
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db


def views(resolver: URLResolver, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found |= views(pattern, route)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            found[route] = pattern.callback.cls
    return found


ALL = views(get_resolver())
OPEN = {
    "api/plans",
    "api/plans/<str:plan_id>",
    "api/schema",
    "api/docs",
    "api/",
    "stripe/webhook",  # the signature is the credential
    "pay/<str:token>/status",  # the link is
}


def test_a_view_that_says_nothing_refuses_everybody(admin):
    class Silent(ApiView):
        def get(self, request: Request) -> Response:
            return success("secret")

    header = authorization(admin.key, url="http://testserver/x", method="GET")
    request = APIRequestFactory().get("/x", headers={"Authorization": header})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.APP_URL", "http://testserver")
        response = Silent.as_view()(request)

    assert response.status_code == 403
    assert response.data["code"] == "permission-denied"


def test_each_view_says_who_may_call_it():
    declared = {
        route: view
        for route, view in ALL.items()
        if route not in OPEN and view is not TenantsView
    }

    assert {view.permission_classes[0] for view in declared.values()} == {
        IsAuthenticated
    }
    assert len(declared) > 12
    opened = {route for route, view in ALL.items() if view not in declared.values()}
    assert opened - {"api/tenants"} == OPEN
    assert all(ALL[route].permission_classes == [AllowAny] for route in OPEN)


def path_of(route: str) -> str:
    values = {
        "<str:pubkey>": "0" * 64,
        "<uuid:relay_id>": str(uuid4()),
        "<str:invoice_id>": "in_1",
        "<str:plan_id>": "basic",
    }
    for name, value in values.items():
        route = route.replace(name, value)
    return f"/{route}"


@pytest.mark.parametrize("route", sorted(set(ALL) - OPEN))
def test_who_has_not_signed_gets_in_nowhere(route):
    for method in ("GET", "POST", "PATCH"):
        answer = call(Client(), method, path_of(route), b"{}")

        assert answer.error == (401, "auth-missing")
        assert answer.headers["WWW-Authenticate"] == "Nostr"
        assert answer.body.keys() == {"error", "code"}


@pytest.mark.parametrize("route", sorted(set(ALL) - OPEN))
def test_a_stranger_finds_nothing_of_others(route, ann, prices):
    relay = RelayFactory(tenant_id=ann.pubkey)
    own = {"api/identity", "api/tenants", "api/relays"}
    path = (
        path_of(route)
        .replace("0" * 64, ann.pubkey)
        .replace(path_of("<uuid:relay_id>")[1:], str(relay.pk))
    )
    if route in own:
        return
    stranger = Person()

    for method in ("GET", "POST", "PATCH"):
        answer = stranger.call(method, path, None if method == "GET" else {})
        assert answer.status in {404, 405}, (method, path, answer)
        assert ann.pubkey not in json.dumps(answer.body)


def test_only_operators_list_the_tenants(ann, admin):
    assert ann.get("/api/tenants").error == (403, "forbidden")
    assert [row["pubkey"] for row in admin.get("/api/tenants").data] == [ann.pubkey]
    assert IsAdmin in [type(each) for each in _permissions_of("GET")]


def _permissions_of(method: str) -> list[object]:
    view = TenantsView()
    view.request = APIRequestFactory().generic(method, "/")
    return view.get_permissions()


def test_an_address_that_is_nothing_is_told_in_the_envelope():
    answer = call(Client(), "GET", "/api/nothing")

    assert answer.error == (404, "not-found")


def test_a_mistake_of_ours_is_told_in_the_envelope(ann, monkeypatch):
    monkeypatch.setattr("api.views.tenants.npub", lambda pubkey: 1 / 0)

    answer = ann.get("/api/identity")

    assert answer.error == (500, "internal")
