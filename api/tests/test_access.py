"""Permissions: a view that declares none denies every request."""

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

from api.tests.support.client import ApiClient, call
from api.views.base import ApiView
from api.views.tenants import TenantsView
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAdmin, IsAuthenticated
from caravel.nostr.http_auth import authorization
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db


def views(resolver: URLResolver, prefix: str = "") -> dict[str, Any]:
    views_by_route: dict[str, Any] = {}
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            views_by_route |= views(pattern, route)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            views_by_route[route] = pattern.callback.cls
    return views_by_route


ALL = views(get_resolver())
PUBLIC = {
    "api/plans",
    "api/plans/<str:plan_id>",
    "api/schema",
    "api/docs",
    "api/",
    "pay/<str:token>/status",  # the token is the credential
}


def test_view_without_permissions_denies_everyone(admin):
    class ViewWithoutPermissions(ApiView):
        def get(self, request: Request) -> Response:
            return success("secret")

    header = authorization(admin.key, url="http://testserver/x", method="GET")
    request = APIRequestFactory().get("/x", headers={"Authorization": header})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.APP_URL", "http://testserver")
        response = ViewWithoutPermissions.as_view()(request)

    assert response.status_code == 403
    assert response.data["code"] == "permission-denied"


def test_every_view_declares_its_permission():
    declared = {
        route: view
        for route, view in ALL.items()
        if route not in PUBLIC and view is not TenantsView
    }

    assert {view.permission_classes[0] for view in declared.values()} == {
        IsAuthenticated
    }
    assert len(declared) > 12
    public = {route for route, view in ALL.items() if view not in declared.values()}
    assert public - {"api/tenants"} == PUBLIC
    assert all(ALL[route].permission_classes == [AllowAny] for route in PUBLIC)


def path_of(route: str) -> str:
    values = {
        "<str:pubkey>": "0" * 64,
        "<uuid:relay_id>": str(uuid4()),
        "<str:export_id>": "1",
        "<str:invoice_id>": "in_1",
        "<str:plan_id>": "basic",
    }
    for name, value in values.items():
        route = route.replace(name, value)
    return f"/{route}"


@pytest.mark.parametrize("route", sorted(set(ALL) - PUBLIC))
def test_unsigned_request_is_refused_everywhere(route):
    for method in ("GET", "POST", "PATCH", "DELETE"):
        response = call(Client(), method, path_of(route), b"{}")

        assert response.error == (401, "auth-missing")
        assert response.headers["WWW-Authenticate"] == "Nostr"
        assert response.body.keys() == {"error", "code"}


@pytest.mark.parametrize("route", sorted(set(ALL) - PUBLIC))
def test_stranger_gets_no_data_of_another_tenant(route, ann, prices):
    relay = RelayFactory(tenant_id=ann.pubkey)
    # Without an id in the URL these only concern the caller.
    caller_only = {"api/identity", "api/tenants", "api/relays"}
    path = (
        path_of(route)
        .replace("0" * 64, ann.pubkey)
        .replace(path_of("<uuid:relay_id>")[1:], str(relay.pk))
    )
    if route in caller_only:
        return
    stranger = ApiClient()

    for method in ("GET", "POST", "PATCH", "DELETE"):
        response = stranger.call(
            method, path, {} if method in ("POST", "PATCH") else None
        )
        assert response.status in {404, 405}, (method, path, response)
        assert ann.pubkey not in json.dumps(response.body)


def test_only_operators_list_tenants(ann, admin):
    assert ann.get("/api/tenants").error == (403, "forbidden")
    assert [row["pubkey"] for row in admin.get("/api/tenants").data] == [ann.pubkey]
    assert IsAdmin in [type(each) for each in _permissions_of("GET")]


def _permissions_of(method: str) -> list[object]:
    view = TenantsView()
    view.request = APIRequestFactory().generic(method, "/")
    return view.get_permissions()


def test_unknown_url_is_404_in_the_envelope():
    response = call(Client(), "GET", "/api/nothing")

    assert response.error == (404, "not-found")


def test_internal_error_is_500_in_the_envelope(ann, monkeypatch):
    monkeypatch.setattr("api.views.tenants.npub", lambda pubkey: 1 / 0)

    response = ann.get("/api/identity")

    assert response.error == (500, "internal")
