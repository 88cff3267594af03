"""Exports of relays over the API."""

import gzip
from urllib.parse import quote

import pytest
from django.utils import timezone

from relays.models import RelayExport
from relays.tests.factories import DoneExportFactory, RelayExportFactory, RelayFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def birds(tenant):
    """Ann's relay, which has run."""
    return RelayFactory(
        tenant=tenant, subdomain="birds", first_served_at=timezone.now()
    )


def test_owner_orders_an_export_and_follows_it(ann, birds):
    ordered = ann.post(f"/api/relays/{birds.pk}/exports", {})

    assert ordered.status == 202
    assert ordered.data["state"] == "waiting"
    assert ordered.data["relay"] == str(birds.pk)
    url = f"/api/relays/{birds.pk}/exports/{ordered.data['id']}"
    assert ann.get(url).data == ordered.data
    RelayExport.objects.update(state="running", events=7, cursor=1_700_000_000)
    assert ann.get(url).data["reached_at"] == "2023-11-14T22:13:20Z"
    assert ann.get(f"{url}/file").error == (409, "export-not-ready")


def test_second_order_returns_the_export_that_is_under_way(ann, birds):
    first = ann.post(f"/api/relays/{birds.pk}/exports", {})

    assert ann.post(f"/api/relays/{birds.pk}/exports", {}).data == first.data


def test_exports_are_listed_newest_first(ann, birds):
    old, new = DoneExportFactory(relay=birds), RelayExportFactory(relay=birds)
    DoneExportFactory()

    rows = ann.get(f"/api/relays/{birds.pk}/exports").data

    assert [row["id"] for row in rows] == [new.pk, old.pk]


def test_file_is_downloaded_as_one_gzip_stream(ann, birds):
    export = DoneExportFactory(relay=birds)
    url = f"/api/relays/{birds.pk}/exports/{export.pk}/file"

    response = ann.download(url)

    assert response.status_code == 200
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Cache-Control"] == "no-store, private"
    assert gzip.decompress(b"".join(response)) == b'{"n":1}\n{"n":2}\n'


def test_relay_of_somebody_else_has_no_exports(ben, admin, birds):
    export = DoneExportFactory(relay=birds)
    base = f"/api/relays/{birds.pk}/exports"

    for url in (base, f"{base}/{export.pk}", f"{base}/{export.pk}/file"):
        assert ben.get(url).error == (404, "relay-not-found")
    assert ben.post(base, {}).error == (404, "relay-not-found")
    assert admin.get(f"{base}/{export.pk}").data["events"] == 2


@pytest.mark.parametrize("number", ["0", "999999", str(2**63), "-1", "x", "٣", "%00"])
def test_export_of_another_relay_or_none_is_unknown(ann, birds, number):
    other = DoneExportFactory(relay__tenant=birds.tenant)

    for export_id in (quote(number, safe="%"), other.pk):
        url = f"/api/relays/{birds.pk}/exports/{export_id}"
        assert ann.get(url).error == (404, "export-not-found")


def test_relay_that_never_ran_is_not_exported(ann, tenant):
    relay = RelayFactory(tenant=tenant)

    response = ann.post(f"/api/relays/{relay.pk}/exports", {})

    assert response.error == (409, "export-not-possible")
