"""Routes and parameters of the sandbox, compared with those of stripe-python."""

from typing import Any, get_args, get_origin

import pytest
import stripe
from typing_extensions import is_typeddict

from sandbox.stripe.api.params import Array, Choice, Hash, Kind
from sandbox.stripe.api.routing import Route
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.tests.support.stripe import builders, types
from sandbox.tests.support.stripe.conformance import check_conformance
from sandbox.tests.support.stripe.types import options

ROUTES = [
    pytest.param(route, id=f"{route.method} /{'/'.join(route.segments)}")
    for resource in REGISTRY.by_name.values()
    for route in resource.routes
]


@pytest.mark.parametrize("route", ROUTES)
def test_endpoint_and_its_parameters_exist_in_the_sdk(route: Route):
    operation = types.operation(route.method, "/".join(route.segments))

    assert operation is not None
    assert undeclared(route.shape.fields, operation.params, "") == []


def undeclared(fields: Any, params: Any, path: str) -> list[str]:
    """Return the declared parameters that the SDK's type does not have."""
    known = types.declared(params) if params else {}
    names = [f"{path}{name}" for name in fields if name not in known]
    for name, kind in fields.items():
        if name in known:
            names += undeclared_in(kind, list(options(known[name])), f"{path}{name}.")
    return names


def undeclared_in(kind: Kind, hints: list[Any], path: str) -> list[str]:
    if isinstance(kind, Array):
        items = [get_args(hint)[0] for hint in hints if get_origin(hint) is list]
        inner = [option for item in items for option in options(item)]
        return undeclared_in(kind.of, inner, path) if items else [f"{path}[]"]
    if isinstance(kind, Hash):
        hashes = [hint for hint in hints if is_typeddict(hint)]
        candidates = [undeclared(kind.fields, hint, path) for hint in hashes]
        return min(candidates, key=len, default=[f"{path}{{}}"])
    if isinstance(kind, Choice):
        words = {word for hint in hints for word in get_args(hint)}
        return [f"{path}{word}" for word in kind.words if words and word not in words]
    return []


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"customer": "cus_1", "items": {"0": {"price": "price_1"}}}, []),
        ({"metadata": {"anything": "goes"}, "expand": {"0": "customer"}}, []),
        ({"item": "x"}, ["item: unknown"]),
        ({"items": {"0": {"prise": "x"}}}, ["items[0][prise]: unknown"]),
        ({"items": "x"}, ["items: not an array"]),
        (
            {"billing_mode": {"type": "strict"}},
            ["billing_mode[type]: 'strict' is not one of"],
        ),
        ({"customer": {"id": "x"}}, ["customer: not a scalar"]),
    ],
)
def test_parameter_check_reports_problems(form, expected):
    creation = types.operation("POST", "/v1/subscriptions")
    assert creation is not None

    problems = types.unknown_parameters(creation.params, form)

    assert len(problems) == len(expected)
    assert all(map(str.startswith, problems, expected))


def test_response_check_reports_problems(api):
    customer = builders.customer(api).to_dict(for_json=True)
    del customer["email"]

    problems = types.response_problems(
        stripe.Customer, {**customer, "delinquent": "no", "color": "red"}
    )

    assert sorted(problems) == [
        "customer.color: not declared",
        "customer.delinquent: 'no' is not bool",
        "customer.email: absent",
    ]


def test_event_check_reports_unknown_previous_attributes():
    event = {
        "type": "product.updated",
        "data": {
            "object": {"object": "product", "deleted": True, "id": "prod_1"},
            "previous_attributes": {"color": "red"},
        },
    }

    assert types.event_problems(event) == [
        "product.updated: previous color is no attribute"
    ]


def test_every_request_of_a_test_is_checked(stripe_sandbox, api):
    builders.subscription(api)

    with check_conformance(stripe_sandbox.app) as checker:
        builders.subscription(api)
        api.v1.events.list()

    assert checker.checked == 4
    assert checker.pop_problems() == []
