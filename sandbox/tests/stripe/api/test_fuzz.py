"""Fuzzing: no request causes a server error, and rejected ones change nothing."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravel.tests.support import search
from sandbox.common.http import Request
from sandbox.stripe.api import params
from sandbox.stripe.api.routing import Route
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.tests.support.stripe import builders

ROUTES = [
    (name, route)
    for name, resource in REGISTRY.by_name.items()
    for route in resource.routes
]
HEADERS = {"authorization": "Bearer sk_test_x"}
TEXTS = ("", "x", "usd", "Usd", "é\0", "٣", "a" * 501, "a@b.example", "2026-01-01")
NUMBERS = (
    *("0", "1", "-1", "3", "100", "-7", "1.5", "1e3", " 1", "x", ""),
    *("4102444800", "253402300800", "99999999999999", "9" * 18, "-" + "9" * 18),
    *("9" * 30, "²"),
)
# Parameters that are only valid with certain values.
VALUES_BY_NAME: dict[str, tuple[Any, ...]] = {
    "currency": ("usd", "usd", "eur", "jpy"),
    "email": ("a@b.example",),
    "expand": ({}, {}, {"0": "customer"}, {"0": "data.customer"}, {"0": "lines.x"}),
    "url": ("http://127.0.0.1:1/",),
}


@pytest.fixture(scope="module")
def fuzz_app():
    """App with invoices in every status, saved as the snapshot `start`."""
    app = StripeApp(seed=1, post=lambda url, body, headers: 200)
    app.register_endpoint("http://127.0.0.1:1/")
    api = in_process_client(app)
    for status in ("draft", "open", "void", "uncollectible", "paid"):
        subscription = builders.subscription(
            api, builders.price(api), builders.price(api, 300)
        )
        set_status(api, str(subscription.latest_invoice), status)
    api.v1.subscriptions.cancel(subscription.id)
    api.v1.customers.delete(builders.customer(api).id)
    api.v1.invoice_items.create(
        {"customer": builders.customer(api).id, "amount": 500, "currency": "usd"}
    )
    app.snapshot("start")
    return app


@pytest.fixture(scope="module")
def forms(fuzz_app):
    fuzz_app.restore("start")
    return Forms(fuzz_app)


def set_status(api, invoice, status):
    """Give a draft invoice this status."""
    if status == "draft":
        return
    api.v1.invoices.finalize_invoice(invoice)
    if status == "void":
        api.v1.invoices.void_invoice(invoice)
    elif status == "uncollectible":
        api.v1.invoices.mark_uncollectible(invoice)
    elif status == "paid":
        api.v1.invoices.pay(invoice, {"paid_out_of_band": True})


def mostly(
    likely: st.SearchStrategy[Any], other: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Return values of the first strategy, and of the other one in ten cases."""
    return st.integers(0, 9).flatmap(lambda number: likely if number else other)


class Forms:
    """Strategies for requests: mostly valid, sometimes not."""

    def __init__(self, app):
        self.request_strategies: dict[Any, st.SearchStrategy[Request]] = {}
        self.ids: dict[str, list[str]] = {}
        for row in app.store.dump()[0]:
            self.ids.setdefault(row.kind, []).append(row.id)
        items = [record["_items"] for record in app.store.scan("subscription")]
        self.ids["id"] = self.ids["subscription_item"] = [
            item["id"] for subscription_items in items for item in subscription_items
        ]
        some_ids = [id for kind in sorted(self.ids) for id in self.ids[kind][:2]]
        self.text = st.sampled_from([*some_ids, "cus_x", *TEXTS])
        self.number = st.sampled_from(NUMBERS)

    def id_of(self, kind):
        """Return ids of a type, and sometimes other values."""
        return mostly(st.sampled_from(self.ids.get(kind, ["x"])[:8]), self.text)

    def of(self, kind: Any, name: str = "") -> st.SearchStrategy[Any]:
        """Return values for a parameter with this type and name, rarely others."""
        if name in VALUES_BY_NAME:
            likely = st.sampled_from(VALUES_BY_NAME[name])
        else:
            likely = self.id_of(name) if name in self.ids else self._valid(kind)
        return mostly(likely, self.any)

    @property
    def any(self):
        return st.one_of(
            self.text,
            self.number,
            st.dictionaries(st.sampled_from(["0", "1", "x", "²", "id"]), self.text),
        )

    def fields(self, fields, required=()):
        """Return hashes with all required fields and some of the others."""
        strategies = {name: self.of(kind, name) for name, kind in fields.items()}
        always = {name: strategies[name] for name in required if name in strategies}
        return st.fixed_dictionaries(
            always,
            optional={
                name: strategies[name] for name in strategies if name not in always
            },
        )

    def _valid(self, kind):
        if isinstance(kind, params.Integer):
            return self.number
        if isinstance(kind, params.Boolean):
            return st.sampled_from(["true", "false"])
        if isinstance(kind, params.Choice):
            return st.sampled_from(kind.words)
        if isinstance(kind, params.Hash):
            return self.fields(kind.fields, kind.required)
        if isinstance(kind, params.Array):
            return st.dictionaries(st.sampled_from(["0", "1", "2"]), self.of(kind.of))
        if isinstance(kind, params.Range):
            bounds = st.sampled_from(["gt", "gte", "lt", "lte"])
            return st.one_of(self.number, st.dictionaries(bounds, self.number))
        if isinstance(kind, params.Metadata):
            return st.dictionaries(self.text, self.text, max_size=3)
        return self.text

    def requests(self, kind: str, route: Route) -> st.SearchStrategy[Request]:
        """Return the strategy for requests to a route; it is built once."""
        if (route.method, route.segments) not in self.request_strategies:
            self.request_strategies[route.method, route.segments] = self._requests(
                kind, route
            )
        return self.request_strategies[route.method, route.segments]

    def _requests(self, kind: str, route: Route) -> st.SearchStrategy[Request]:
        fields = {**route.shape.fields, "expand": params.EXPAND}
        kinds = [route.segments[1].removesuffix("s"), kind]
        return st.builds(
            request,
            st.just(route),
            st.tuples(*map(self.id_of, kinds[: route.segments.count("{}")])),
            self.fields(fields, route.shape.required),
        )


def request(route, ids, form):
    """Return a request to the route with these ids and parameters."""
    remaining_ids = iter(ids)
    parts = [
        quote(next(remaining_ids), safe="") if s == "{}" else s for s in route.segments
    ]
    encoded = urlencode(list(form_pairs(form)), errors="surrogatepass")
    path = "/" + "/".join(parts)
    if route.method == "GET":
        return Request("GET", path, encoded, HEADERS)
    return Request(route.method, path, "", HEADERS, encoded.encode())


def form_pairs(value, name=""):
    """Yield the (name, value) pairs of a nested form, such as `a[b][c]`."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from form_pairs(inner, f"{name}[{key}]" if name else key)


def check(app, http_request):
    """Assert that a request is no server error and, if rejected, changes nothing."""
    app.restore("start")
    before = objects(app)

    response = app.handle(http_request)

    assert response.status in (200, 400, 402, 404), response.body
    body = json.loads(response.body)
    assert ("error" in body) == (response.status != 200)
    # As at Stripe, the attempt of a declined card is stored.
    if response.status in (400, 404):
        assert objects(app) == before


def objects(app):
    """Return all records except idempotent responses, which may be errors."""
    return [row for row in app.store.dump()[0] if row.kind != "_answer"]


def route_name(value):
    if isinstance(value, Route):
        return f"{value.method} {'/'.join(value.segments[1:])}"
    return ""


@pytest.mark.search
@pytest.mark.parametrize(("kind", "route"), ROUTES, ids=route_name)
@settings(max_examples=search.examples(12), deadline=None)
@given(data=st.data())
def test_random_parameters_never_cause_a_server_error(
    fuzz_app, forms, kind, route, data
):
    check(fuzz_app, data.draw(forms.requests(kind, route)))


@pytest.mark.search
@settings(max_examples=search.examples(150), deadline=None)
@given(
    st.sampled_from([route for _, route in ROUTES]),
    st.text(max_size=30),
    st.binary(max_size=60),
    st.text(max_size=20),
    st.lists(st.text(max_size=6), max_size=3),
)
def test_random_bytes_never_cause_a_server_error(
    fuzz_app, route, query, body, key, ids
):
    all_ids = [*ids, *["in_x"] * route.segments.count("{}")]
    valid = request(route, all_ids, {})
    headers = {**HEADERS, "idempotency-key": key}

    check(fuzz_app, Request(valid.method, valid.path, query, headers, body))


def test_valid_requests_succeed_on_the_fuzzed_account(fuzz_app):
    # Otherwise the fuzzing would prove little.
    fuzz_app.restore("start")
    subscription = next(iter(fuzz_app.store.scan("subscription")))["id"]
    cases = {
        f"/v1/subscriptions/{subscription}": "metadata[a]=b",
        "/v1/customers": "name=A&metadata[a]=b",
    }

    for path, form in cases.items():
        valid = Request("POST", path, "", HEADERS, form.encode())
        assert fuzz_app.handle(valid).status == 200
