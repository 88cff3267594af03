import json
import os
import signal
import threading
from uuid import uuid4

import pytest
from django.db import transaction

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support.http_server import response, running_server, self_signed
from caravel.tests.support.waiting import LIMIT
from relays.clients import nip11
from relays.clients.nip11 import (
    CONNECTIONS,
    MAX_BYTES,
    Probe,
    RelayDocument,
    fetch_document,
    fetch_documents,
    printable,
)
from relays.clients.zooid import Zooid
from relays.exceptions import RelayUnreachable

HOST = "ann.relays.example"
ANN = pubkey_of("1" * 64)
SECRET = generate_secret_key()
RELAY = uuid4()
#: What `http.Error(w, "Not Found", 404)` sends, as in zooid's cmd/relay/main.go.
ZOOID_404 = response(404, b"Not Found\n", Content_Type="text/plain; charset=utf-8")

pytestmark = pytest.mark.django_db


def config(relay_id=RELAY, host=HOST, **info):
    return {
        "host": host,
        "schema": f"r{relay_id.hex}",
        "secret": SECRET,
        "info": {"pubkey": ANN, **info},
    }


def document(**fields):
    return json.dumps({"name": "Ann's", "pubkey": ANN, **fields}).encode()


def message(host=HOST):
    """Return the message of the RelayUnreachable that fetching a document raises."""
    with pytest.raises(RelayUnreachable) as caught:
        fetch_document(host)
    assert "hunter2" not in str(caught.value)
    return caught.value.message


def name_of(probe: Probe) -> str:
    """Return the name in a document."""
    assert isinstance(probe, RelayDocument)
    return probe.name


@pytest.fixture
def answer(settings):
    """Set the response of every relay."""
    responses: list[bytes] = []
    with running_server(lambda _: responses[-1]) as server:
        settings.ZOOID_RELAYS_URL = server.url
        yield responses.append


def test_document_of_an_active_relay_proves_whose_it_is(zooid):
    info = {"name": "Ann's", "icon": "https://a.example/i", "description": "One\nTwo"}
    Zooid().create_relay(RELAY, config(**info))

    assert fetch_document(HOST) == RelayDocument(
        **info, pubkey=ANN, self_pubkey=pubkey_of(SECRET)
    )


def test_no_relay_is_served_under_an_inactive_deleted_or_unknown_name(zooid):
    Zooid().create_relay(RELAY, config())
    Zooid().patch_relay(RELAY, {"inactive": True})
    assert fetch_document(HOST) is None
    assert fetch_document(f"x.{HOST}") is None

    Zooid().patch_relay(RELAY, {"inactive": False})
    assert fetch_document(HOST) is not None

    Zooid().delete_relay(RELAY)
    assert fetch_document(HOST) is None


def test_request_names_the_relay_and_accepts_nothing_else(settings):
    with running_server(lambda _: ZOOID_404) as server:
        settings.ZOOID_RELAYS_URL = server.url
        fetch_document("ann.relays.example:8443")

    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/")
    assert request.headers["host"] == "ann.relays.example:8443"
    # https://github.com/fiatjaf/khatru/blob/master/handlers.go compares it as a whole.
    assert request.headers["accept"] == "application/nostr+json"
    assert request.headers["cache-control"] == "no-cache"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_relay_is_reached_at_its_own_name_by_default(
    settings, scheme, tmp_path, monkeypatch
):
    settings.ZOOID_RELAYS_URL, settings.APP_URL = "", f"{scheme}://app.example"
    tls, certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    served = response(200, document())
    with running_server(lambda _: served, scheme == "https" and tls) as server:
        host = server.url.removeprefix(f"{scheme}://")

        assert name_of(fetch_document(host)) == "Ann's"
        assert name_of(fetch_documents([host])[host]) == "Ann's"
    assert {request.headers["host"] for request in server.requests} == {host}


@pytest.mark.parametrize(
    "body",
    [
        b"404 page not found\n",  # Traefik, and Go's own router
        b"<html><title>404 Not Found</title></html>",  # nginx
        b'{"error": "Not Found"}',
        b"",
    ],
)
def test_404_in_other_words_proves_nothing(answer, body):
    answer(response(404, body))

    assert message() == "A proxy answered 404 in place of zooid."


@pytest.mark.parametrize("status", [204, 301, 302, 401, 403, 410, 429, 500, 502, 503])
def test_other_status_proves_nothing(answer, status):
    answer(response(status, document(), Location="http://127.0.0.1:9/hunter2"))

    assert message() == f"The relay answered {status}."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hunter2</html>",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 60_000,
        document(pubkey=None),
        document(pubkey=""),
        document(pubkey=ANN.upper()),
        document(pubkey=f"{ANN}\n"),
        document(pubkey=[ANN]),
        document(name=["hunter2"]),
        document(description={}),
        document(icon=1),
    ],
)
def test_body_without_document_proves_nothing(answer, body):
    answer(response(200, body))

    assert message() == "The relay's answer is no NIP-11 document of zooid."


@pytest.mark.parametrize("name", ["name", "description", "icon"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[31mc\x7f\x85", "ab[31mc"),
        ("one\r\n\ttwo", "one\r\n\ttwo"),
        ("\ud83d!", "!"),
        ("Zoë 🏝️", "Zoë 🏝️"),
        ("x" * 60_000, "x" * 60_000),
        (None, ""),
    ],
    ids=["control", "lines", "surrogate", "unicode", "long", "null"],
)
def test_texts_have_no_control_characters(answer, name, text, shown):
    answer(response(200, document(**{name: text})))

    assert getattr(fetch_document(HOST), name) == shown
    assert printable(text or "") == shown


def test_fields_that_are_left_out_are_empty(answer):
    answer(response(200, json.dumps({"pubkey": ANN}).encode()))

    assert fetch_document(HOST) == RelayDocument("", "", "", ANN, "")


@pytest.mark.parametrize("key", [None, "", "hunter2", 1, ANN.upper()])
def test_relay_key_that_is_no_key_is_left_out(answer, key):
    answer(response(200, document(self=key)))

    found = fetch_document(HOST)
    assert found is not None
    assert found.self_pubkey == ""


@pytest.mark.parametrize(
    ("size", "accepted"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)]
)
def test_document_has_at_most_64_kib(answer, size, accepted):
    answer(response(200, document().ljust(size)))

    if accepted:
        assert name_of(fetch_document(HOST)) == "Ann's"
    else:
        assert message() == "The relay was not reached: its answer is too large."


def test_slow_relay_is_given_up_at_the_deadline(zooid, monkeypatch):
    monkeypatch.setattr(nip11, "TIMEOUT", 0.1)
    zooid.fault("slow", place="relays", seconds=4)

    assert message() == "The relay was not reached: it did not answer in time."


def test_lost_connection_proves_nothing(zooid):
    zooid.fault("reset", place="relays", times=1)

    assert message() == "The relay was not reached: the connection failed."
    assert fetch_document(HOST) is None


def test_many_relays_are_probed_at_once(zooid):
    hosts = [f"r{number}.relays.example" for number in range(3)]
    relays = [uuid4() for _ in hosts]
    for relay, host in zip(relays, hosts, strict=True):
        Zooid().create_relay(relay, config(relay, host, name=host))
    Zooid().patch_relay(relays[1], {"inactive": True})
    zooid.fault("error", place="relays", path=f"{hosts[2]}/")

    probes = fetch_documents([*hosts, hosts[0], "☃"])

    assert list(probes) == [*hosts, "☃"]
    assert name_of(probes[hosts[0]]) == hosts[0]
    assert probes[hosts[1]] is None
    failed = probes[hosts[2]]
    assert isinstance(failed, RelayUnreachable)
    assert failed.message == "The relay answered 500."
    assert isinstance(probes["☃"], RelayUnreachable)


def test_server_that_does_not_answer_is_asked_by_one_round_of_probes(zooid):
    zooid.fault("error", place="relays", status=502)
    hosts = [f"r{number}.relays.example" for number in range(3 * CONNECTIONS)]

    probes = fetch_documents(hosts)

    assert [*probes] == hosts
    texts = [str(probe) for probe in probes.values()]
    assert "The relay answered 502." in texts[CONNECTIONS - 1]
    assert "It was not requested" in texts[CONNECTIONS]


def test_one_relay_that_is_not_reached_ends_no_probes(zooid):
    zooid.fault("error", place="relays", status=502, path="r0.*")
    hosts = [f"r{number}.relays.example" for number in range(2 * CONNECTIONS)]

    probes = fetch_documents(hosts)

    assert [host for host in hosts if probes[host] is not None] == hosts[:1]


def test_no_probe_of_no_relay(zooid):
    assert fetch_documents([]) == {}


def test_probes_wait_together_and_share_connections(settings):
    together = threading.Barrier(CONNECTIONS)

    def respond(_):
        # Each of them is answered only once all of them have arrived.
        together.wait(timeout=60)
        return ZOOID_404

    with running_server(respond) as server:
        settings.ZOOID_RELAYS_URL = server.url
        probes = fetch_documents([f"{n}.example" for n in range(3 * CONNECTIONS)])

    assert set(probes.values()) == {None}
    assert server.connections == CONNECTIONS


def test_probes_at_once_are_bounded_for_all_callers(settings):
    lock, now, most = threading.Lock(), 0, 0

    def respond(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        answered.wait(0.01)
        with lock:
            now -= 1
        return ZOOID_404

    answered = threading.Event()
    with running_server(respond) as server:
        settings.ZOOID_RELAYS_URL = server.url
        hosts = [[f"{n}.{caller}.example" for n in range(100)] for caller in range(3)]
        callers = [
            threading.Thread(target=fetch_documents, args=[each]) for each in hosts
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    assert len(server.requests) == 300
    assert most <= CONNECTIONS


def test_forked_child_has_its_own_threads(settings, monkeypatch):
    # The child must not close the parent's connection to the database.
    monkeypatch.setattr(nip11, "release_connection", lambda: None)
    with running_server(lambda _: ZOOID_404) as server:
        settings.ZOOID_RELAYS_URL = server.url
        assert fetch_documents([HOST]) == {HOST: None}
        child = os.fork()
        if child == 0:
            signal.alarm(int(LIMIT))
            try:
                os._exit(0 if fetch_documents([HOST]) == {HOST: None} else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)

    assert status == 0


@pytest.mark.parametrize(
    "fetch", [fetch_document, lambda host: fetch_documents([host])]
)
def test_fetch_inside_transaction_raises_before_any_request(settings, fetch):
    with running_server(lambda _: ZOOID_404) as server:
        settings.ZOOID_RELAYS_URL = server.url
        with pytest.raises(NetworkInTransaction), transaction.atomic():
            fetch(HOST)

    assert server.requests == []
