import pytest
from django.urls import reverse

from relays.models import RelayExport
from relays.tests.factories import DoneExportFactory, RelayExportFactory

pytestmark = pytest.mark.django_db
LIST = reverse("admin:relays_relayexport_changelist")


def test_list_shows_the_progress_of_each_export(
    admin_client, django_assert_max_num_queries
):
    for number in range(3):
        RelayExportFactory(
            relay__subdomain=f"birds-{number}",
            state="running",
            events=4_321,
            size_bytes=5 * 1024 * 1024,
            cursor=1_700_000_000,
        )

    with django_assert_max_num_queries(8):
        page = admin_client.get(LIST).text

    assert "birds-2" in page
    assert "4321" in page
    assert "5.0\xa0MB" in page
    assert "Nov. 14, 2023" in page


def test_page_of_an_export_keeps_the_private_name_and_the_file_to_itself(admin_client):
    export = RelayExportFactory(
        window_host="x123.relays.example", cursor_ids=["e" * 64], cursor=5
    )

    page = admin_client.get(
        reverse("admin:relays_relayexport_change", args=[export.pk])
    ).text

    assert "x123" not in page
    assert "e" * 64 not in page


def test_support_cancels_unfinished_exports(admin_client):
    running, done = RelayExportFactory(), DoneExportFactory()

    response = admin_client.post(
        LIST,
        {"action": "cancel", "_selected_action": [running.pk, done.pk]},
        follow=True,
    )

    assert "Canceled 1 export." in response.text
    states = RelayExport.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["failed", "done"]
