"""Each list of the admin and of the API, with its filters, orders and searches."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import models
from django.test import Client, RequestFactory
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

from api.tests.support.client import ApiClient
from benchmarks.support.large.places import Place, run
from caravel.nostr import npub
from relays.models import Relay, RelayExport
from tenants.models import Tenant

#: Searched for in each list; nothing matches.
_NOTHING = "nothing-is-called-this"
_LOOKUP = re.compile(r"__(startswith|icontains|exact)$")
_RATES = ("API_RATE_PER_ADDRESS", "API_RATE_PER_KEY", "API_RATE_COSTLY")


def run_pages() -> Iterator[Place]:
    """Request each list once in each way that it offers."""
    for name in _RATES:
        setattr(settings, name, "1000000/second")
    client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
    user = User.objects.create_superuser("ann")
    client.force_login(user)
    for model, page in sorted(admin.site._registry.items(), key=lambda i: str(i[0])):
        yield from _admin_lists(client, user, model, page)
    yield from _api_lists()


def _admin_lists(
    client: Client, user: User, model: type[models.Model], page: Any
) -> Iterator[Place]:
    meta = model._meta
    url = f"admin:{meta.app_label}_{meta.model_name}"
    name = f"{meta.app_label}.{meta.object_name}"
    yield run("admin", name, partial(_get, client, reverse(f"{url}_changelist")))
    others = {
        "p=2": ", second page",
        **_filters(_changelist(user, page, "")),
        **_searches(model, page),
    }
    for query, label in others.items():
        yield run("admin", name + label, partial(_list, user, page, query))
    row = model._default_manager.order_by("pk").last()
    if row is not None:
        change = reverse(f"{url}_change", args=[quote(row.pk)])
        yield run("admin", f"{name}, one row", partial(_get, client, change))


def _get(client: Client, path: str) -> None:
    status = client.get(path).status_code
    if status != 200:
        raise RuntimeError(f"{path}: {status}")


def _changelist(user: User, page: Any, query: str) -> Any:
    request = RequestFactory().get(f"/?{query}")
    request.user = user
    return page.get_changelist_instance(request)


def _list(user: User, page: Any, query: str) -> None:
    """Read the rows and the filters of a list, without making a page of them."""
    changelist = _changelist(user, page, query)
    list(changelist.result_list)
    for spec in changelist.filter_specs:
        list(spec.choices(changelist))


def _filters(changelist: Any) -> dict[str, str]:
    """Return the query of each choice of each filter, with its name."""
    choices = (
        (spec, choice)
        for spec in changelist.filter_specs
        for choice in spec.choices(changelist)
    )
    return {
        choice["query_string"].lstrip("?"): f", {spec.title}: {choice['display']}"
        for spec, choice in choices
        if choice.get("query_string") not in (None, "?")
    }


def _searches(model: type[models.Model], page: Any) -> dict[str, str]:
    """Return a search for a value of each field that is searched, and for nothing."""
    texts = {_NOTHING: ", search for nothing"}
    for name in page.search_fields:
        path = _LOOKUP.sub("", name)
        rows = model._default_manager.exclude(**{path: None}).order_by("-pk")
        text = rows.values_list(path, flat=True).first()
        if text:
            texts[str(text)] = f", search by {path}"
        if text and path.endswith("pubkey"):
            texts[npub(text)[:12]] = f", search by the start of {path}"
    return {urlencode({"q": text}): label for text, label in texts.items()}


def _api_lists() -> Iterator[Place]:
    """Request each GET of the API's description, with each value of each parameter."""
    client = ApiClient(client=Client(headers={"host": settings.ALLOWED_HOSTS[0]}))
    settings.ADMIN_PUBKEYS = [client.pubkey]
    schema = SchemaGenerator().get_schema(request=None, public=True)
    examples = _examples()
    for path, operations in sorted(schema["paths"].items()):
        if "get" in operations and "{" not in path.format(**examples):
            url = path.format(**examples)
            for query in _queries(operations["get"]):
                label = path + (f"?{query}" if query else "")
                target = url + (f"?{query}" if query else "")
                yield run("api", label, partial(client.send, "GET", target, b""))


def _queries(operation: Any) -> Iterator[str]:
    yield ""
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        values = schema.get("enum") or ()
        if schema.get("type") == "boolean":
            values = ("true", "false")
        if parameter["in"] == "query":
            yield from (f"{parameter['name']}={value}" for value in values)


def _examples() -> dict[str, object]:
    """Return the identifiers of rows that have others under them."""
    export = RelayExport.objects.filter(state="done").first()
    relay = Relay.objects.existing().last()
    return {
        "pubkey": Tenant.objects.last().pk,
        "relay_id": export.relay_id if export else relay.pk,
        "export_id": export.pk,
        "plan_id": "basic",
        "invoice_id": "in_1",
    }
