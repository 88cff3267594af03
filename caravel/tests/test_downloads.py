import pytest

from caravel.core.web.downloads import download
from caravel.core.web.throttling import Overloaded

# Django looks after its database connections when a response is closed.
pytestmark = pytest.mark.django_db(transaction=True)


def start(request, exclusive="birds"):
    return download(
        request,
        iter([b"one", b"two"]),
        name="Vögel.jsonl.gz",
        size=6,
        content_type="application/gzip",
        exclusive=exclusive,
    )


def test_file_is_sent_in_its_parts_with_its_size_and_name(rf):
    response = start(rf.get("/"))

    assert list(response) == [b"one", b"two"]
    assert response["Content-Length"] == "6"
    assert response["Content-Type"] == "application/gzip"
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''")
    response.close()


def test_head_has_the_size_and_needs_no_slot(rf):
    running = start(rf.get("/"))

    response = start(rf.head("/"))

    assert (response["Content-Length"], response.content) == ("6", b"")
    running.close()


@pytest.mark.parametrize("read", [0, 1, 2], ids=["unread", "half", "whole"])
def test_download_that_ends_frees_its_slot(rf, read):
    response = start(rf.get("/"))
    with pytest.raises(Overloaded):
        start(rf.get("/"))
    for _ in range(read):
        next(iter(response.streaming_content))

    response.close()

    start(rf.get("/")).close()


def test_slot_is_free_after_the_last_part(rf):
    response = start(rf.get("/"))

    assert list(response) == [b"one", b"two"]

    start(rf.get("/")).close()
    response.close()


def test_one_address_gets_one_download_at_a_time_whatever_it_downloads(rf):
    running = start(rf.get("/"), exclusive="birds")

    with pytest.raises(Overloaded):
        start(rf.get("/"), exclusive="bees")
    start(rf.get("/", REMOTE_ADDR="192.0.2.7"), exclusive="bees").close()
    running.close()


def test_downloads_leave_threads_to_others(rf, settings):
    settings.SLOW_REQUESTS = 4
    requests = [rf.get("/", REMOTE_ADDR=f"192.0.2.{host}") for host in range(3)]
    running = [
        start(each, exclusive=name) for each, name in zip(requests, "ab", strict=False)
    ]

    with pytest.raises(Overloaded):
        start(requests[2], exclusive="cat")

    for response in running:
        response.close()
