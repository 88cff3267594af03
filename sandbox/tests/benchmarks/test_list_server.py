"""The server that lists copies of one subscription: each once, newest first."""

import json
from dataclasses import asdict
from urllib.parse import urlencode

import pytest

from benchmarks.support.reconciliation.list_server import Lists
from benchmarks.support.reconciliation.names import NEWEST, Template
from sandbox.common.http import Request, run

TEMPLATE = Template(
    pubkey="f" * 64,
    relay="",
    subdomain="",
    customer="cus_template",
    subscription="sub_template",
    invoice="in_template",
    created=1_000_000,
)
SUBSCRIPTION = {
    "id": TEMPLATE.subscription,
    "created": TEMPLATE.created_at(NEWEST),
    "customer": TEMPLATE.customer,
    "latest_invoice": TEMPLATE.invoice,
    "metadata": {"tenant_pubkey": TEMPLATE.pubkey},
}


@pytest.fixture
def lists(tmp_path):
    path = tmp_path / "lists.json"
    content = {
        "template": asdict(TEMPLATE),
        "account": "{}",
        "subscription": json.dumps(SUBSCRIPTION),
    }
    path.write_text(json.dumps(content))
    return Lists(path, 250, 0.0)


def read(lists, **query):
    """Return all subscriptions of a query, and the number of pages."""
    found: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    pages = 0
    while True:
        text = urlencode({"limit": 100, **query, **cursor})
        response = run(lists.respond(Request("GET", "/v1/subscriptions", text)))
        page = json.loads(response.body)
        found, pages = [*found, *page["data"]], pages + 1
        if not page["has_more"]:
            return found, pages
        cursor = {"starting_after": page["data"][-1]["id"]}


def test_each_subscription_is_listed_once_newest_first(lists):
    found, pages = read(lists)

    assert pages == 3
    assert found[0] == SUBSCRIPTION
    assert len({each["id"] for each in found}) == 250
    created = [each["created"] for each in found]
    assert created == sorted(created, reverse=True)


def test_copy_has_names_and_an_age_of_its_own(lists):
    *_, oldest = read(lists)[0]

    assert oldest == {
        "id": "sub_00000000000001",
        "created": TEMPLATE.created_at(1),
        "customer": "cus_00000000000001",
        "latest_invoice": "in_00000000000001",
        "metadata": {"tenant_pubkey": f"{1:064x}"},
    }


def test_windows_of_the_creation_divide_the_list(lists):
    edges = [TEMPLATE.created_at(60) - 1, TEMPLATE.created_at(200)]

    older, _ = read(lists, **{"created[lt]": edges[0]})
    between, _ = read(lists, **{"created[gte]": edges[0], "created[lt]": edges[1]})
    newer, _ = read(lists, **{"created[gte]": edges[1]})

    assert [len(older), len(between), len(newer)] == [59, 140, 51]
    assert [*newer, *between, *older] == read(lists)[0]
