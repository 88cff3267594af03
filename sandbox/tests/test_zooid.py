"""The management API of the sandbox zooid, asked over a real socket."""

import json
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from caravel.nostr import generate_secret_key, npub, pubkey_of, short_npub
from caravel.nostr.events import sign_event
from caravel.nostr.http_auth import HTTP_AUTH, authorization
from sandbox.zooid import CannotListen, running_zooid
from sandbox.zooid.faults import HUGE
from sandbox.zooid.store import UnreadableState

KEY = generate_secret_key()
ANN, BEN = (pubkey_of(generate_secret_key()) for _ in range(2))


@pytest.fixture
def manager():
    with running_zooid(whitelist=[pubkey_of(KEY)]) as zooid:
        yield zooid


def send(zooid, method, path, said=None, *, key=KEY, **options):
    """Send a signed request; a header `Authorization` that is given replaces ours."""
    body = b"" if said is None else json.dumps(said).encode()
    url = f"{zooid.url}{path}"
    signature = authorization(key, url=url, method=method, body=body)
    headers = {"Authorization": signature, **options.pop("headers", {})}
    options = {"timeout": 10, "allow_redirects": False, **options}
    return requests.request(method, url, data=body, headers=headers, **options)


def config(name="one", **more):
    return {
        "host": f"{name}.relays.example",
        "schema": f"relay_{name}",
        "secret": generate_secret_key(),
        "info": {"name": name, "pubkey": ANN},
        **more,
    }


def control(zooid, method, path, /, **said):
    return requests.request(
        method, f"{zooid.url}/_sandbox/{path}", json=said, timeout=10
    )


def test_a_relay_is_created_replaced_patched_and_deleted(manager):
    first, second = config(groups={"enabled": True}), config("two")

    created = send(manager, "POST", "/relay/a", first)
    assert (created.status_code, [*created.json()]) == (201, ["message"])
    assert manager.relays["a"]["groups"] == {"enabled": True}

    assert send(manager, "PUT", "/relay/a", second).status_code == 200
    assert manager.relays["a"]["host"] == "two.relays.example"
    assert "groups" not in manager.relays["a"]

    patch = {"info": {"description": "Ours", "name": None}, "inactive": True}
    assert send(manager, "PATCH", "/relay/a", patch).status_code == 200
    assert manager.relays["a"]["info"] == {"pubkey": ANN, "description": "Ours"}
    assert manager.relays["a"]["inactive"] is True
    assert manager.relays["a"]["secret"] == second["secret"]

    assert send(manager, "DELETE", "/relay/a").status_code == 200
    assert manager.relays == {}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_is_not_there_is_not_found(manager, method):
    answer = send(manager, method, "/relay/a", config())

    assert (answer.status_code, [*answer.json()]) == (404, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/relay/a", 405),
        ("POST", "/relay/a/members", 405),
        ("POST", "/relay/", 400),
        ("POST", "/relays/a", 404),
        ("GET", "/relay/a/b", 404),
        ("GET", "/elsewhere", 404),
    ],
)
def test_other_paths_and_methods_are_refused(manager, method, path, status):
    answer = send(manager, method, path, config() if method == "POST" else None)

    assert (answer.status_code, [*answer.json()]) == (status, ["error"])


def test_id_schema_and_host_are_of_one_relay_only(manager):
    assert send(manager, "POST", "/relay/a", config()).status_code == 201
    assert send(manager, "POST", "/relay/b", config("two")).status_code == 201
    same_schema, same_host = config("c"), config("c")
    same_schema["schema"], same_host["host"] = "relay_one", "one.relays.example"

    assert send(manager, "POST", "/relay/a", config("c")).status_code == 409
    assert send(manager, "POST", "/relay/c", same_schema).status_code == 409
    assert send(manager, "POST", "/relay/c", same_host).status_code == 409
    assert send(manager, "PUT", "/relay/b", same_host).status_code == 409
    assert (
        send(manager, "PATCH", "/relay/b", {"schema": "relay_one"}).status_code == 409
    )
    # Its own are no obstacle.
    assert (
        send(manager, "PATCH", "/relay/a", {"schema": "relay_one"}).status_code == 200
    )
    assert {*manager.relays} == {"a", "b"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"host": None},
        {"schema": "with-hyphen"},
        {"schema": "1st"},
        {"secret": "ab"},
        {"secret": "0" * 64},
        {"info": {}},
        {"info": {"pubkey": "f" * 64}},
        {"info": {"pubkey": npub(ANN)}},
        {"info": "none"},
        {"inactive": "yes"},
        {"policy": {"public_join": 1}},
        {"roles": []},
        {"roles": {"admin": {"pubkeys": [1]}}},
    ],
)
def test_a_configuration_must_make_sense(manager, wrong):
    good = config()
    assert send(manager, "POST", "/relay/a", {**good, **wrong}).status_code == 400
    assert send(manager, "POST", "/relay/a", good).status_code == 201
    if wrong != {"info": {}}:  # a patch with nothing in it
        assert send(manager, "PATCH", "/relay/a", wrong).status_code == 400
    assert send(manager, "PUT", "/relay/a", {**good, **wrong}).status_code == 400
    for field in ("host", "schema", "secret"):
        assert manager.relays["a"][field] == good[field]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(manager, body):
    url = f"{manager.url}/relay/a"
    headers = {"Authorization": authorization(KEY, url=url, method="POST", body=body)}

    answer = requests.post(url, data=body, headers=headers, timeout=10)

    assert answer.status_code == 400


def header(secret_key=KEY, *, kind=HTTP_AUTH, **values):
    event = sign_event(secret_key, kind=kind, content="", tags=values.items())
    return f"Nostr {b64encode(event.to_json().encode()).decode()}"


def tampered(url):
    event = json.loads(
        sign_event(
            KEY, kind=HTTP_AUTH, content="", tags=[("u", url), ("method", "GET")]
        ).to_json()
    )
    event["sig"] = event["sig"][::-1]
    return f"Nostr {b64encode(json.dumps(event).encode()).decode()}"


WRONG = {
    "nothing": lambda url: "",
    "another scheme": lambda url: header(u=url, method="GET").replace("Nostr", "Basic"),
    "no base64": lambda url: "Nostr ???",
    "no event": lambda url: f"Nostr {b64encode(b'[1]').decode()}",
    "another kind": lambda url: header(kind=1, u=url, method="GET"),
    "a wrong signature": tampered,
    "no address": lambda url: header(method="GET"),
    "another path": lambda url: header(u=f"{url}/", method="GET"),
    "a query": lambda url: header(u=f"{url}?a=b", method="GET"),
    "https": lambda url: header(u=url.replace("http", "https", 1), method="GET"),
    "no method": lambda url: header(u=url),
    "another method": lambda url: header(u=url, method="POST"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_nobody_manages_without_a_signature_for_just_this(manager, wrong):
    manager.set_members("a", [ANN])
    signature = WRONG[wrong](f"{manager.url}/relay/a/members")

    answer = send(
        manager, "GET", "/relay/a/members", headers={"Authorization": signature}
    )

    assert (answer.status_code, [*answer.json()]) == (401, ["error"])


def test_a_stranger_may_not_manage(manager):
    stranger = generate_secret_key()

    assert send(manager, "POST", "/relay/a", config(), key=stranger).status_code == 403
    assert manager.relays == {}


def test_behind_a_proxy_its_address_has_https(manager):
    manager.set_members("a", [ANN])
    url = f"{manager.url}/relay/a/members".replace("http", "https", 1)
    headers = {
        "Authorization": header(u=url, method="get"),
        "X-Forwarded-Proto": "https",
    }

    assert send(manager, "GET", "/relay/a/members", headers=headers).status_code == 200


def test_by_another_name_it_is_no_api(manager):
    port = manager.url.rpartition(":")[2]
    url = f"http://localhost:{port}/relay/a/members"
    headers = {"Authorization": authorization(KEY, url=url, method="GET")}

    answer = requests.get(url, headers=headers, timeout=10)

    assert (answer.status_code, answer.text) == (404, "Not Found\n")


def test_members_are_those_with_a_role_until_others_are_set(manager):
    roles = {"admin": {"pubkeys": [ANN], "can_manage": True}, "member": {}}
    send(manager, "POST", "/relay/a", config(roles=roles))

    def members():
        return send(manager, "GET", "/relay/a/members").json()

    assert members() == {"members": [ANN]}
    manager.set_members("a", [BEN, ANN])
    assert members() == {"members": [BEN, ANN]}
    # They are in the relay's database, which outlives its configuration.
    send(manager, "DELETE", "/relay/a")
    assert send(manager, "GET", "/relay/a/members").status_code == 404
    send(manager, "POST", "/relay/a", config())
    assert members() == {"members": [BEN, ANN]}


def test_members_can_be_set_of_a_relay_that_nobody_has_put_there(manager):
    for relay_id in ("3f0c-1", "3f0c-2"):
        said = control(
            manager, "POST", f"relays/{relay_id}/members", members=[npub(ANN)]
        )
        assert said.json()["members"] == [ANN]

    shown = control(manager, "GET", "relays").json()
    assert {*shown} == {"3f0c-1", "3f0c-2"}
    assert "secret" not in json.dumps(shown)
    assert send(manager, "GET", "/relay/3f0c-1/members").json() == {"members": [ANN]}


def test_control_says_what_it_does_not_understand(manager):
    wrong: list[tuple[str, str, dict[str, object], int]] = [
        ("POST", "relays/a/members", {"members": ["nobody"]}, 400),
        ("POST", "relays/a/members", {"member": [ANN]}, 400),
        ("POST", "faults", {"kind": "mood"}, 400),
        ("POST", "faults", {"kind": "error", "status": 99}, 400),
        ("GET", "nothing", {}, 404),
    ]
    for method, path, said, status in wrong:
        answer = control(manager, method, path, **said)
        assert (answer.status_code, [*answer.json()]) == (status, ["error"])
    assert manager.relays == {}


def test_control_is_for_this_machine_only(manager):
    url = f"{manager.url}/_sandbox/relays"
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert requests.get(url, headers=headers, timeout=10).status_code == 403


def test_the_page_shows_relays_and_faults(manager):
    made = config(groups={"enabled": True}, inactive=True)
    send(manager, "POST", "/relay/a", {**made, "info": {"name": "<b>", "pubkey": ANN}})
    manager.set_members("a", [ANN, *[BEN] * 11])
    manager.fault("reset", method="PUT", times=3)

    page = requests.get(f"{manager.url}/", timeout=10)

    assert page.status_code == 200
    for text in ("one.relays.example", short_npub(ANN), "and 2 more", "inactive"):
        assert text in page.text
    for text in ("groups", "&lt;b&gt;", "before the work of PUT", "3 left"):
        assert text in page.text
    assert "<b>" not in page.text
    assert made["secret"] not in page.text
    style = requests.get(f"{manager.url}/_pages/lightning.css", timeout=10)
    assert style.headers["Content-Type"].startswith("text/css")
    assert requests.get(f"{manager.url}/_pages/none", timeout=10).status_code == 404
    evil = {"Host": "evil.example"}
    assert requests.get(manager.url, headers=evil, timeout=10).status_code == 403


def test_control_orders_faults_and_clears_them(manager):
    ordered = control(
        manager, "POST", "faults", kind="error", method="GET", status=502, times=2
    ).json()
    assert [(f["kind"], f["method"], f["times"]) for f in ordered] == [
        ("error", "GET", 2)
    ]

    answers = [send(manager, "GET", "/relay/a/members").status_code for _ in range(3)]
    assert answers == [502, 502, 404]

    control(manager, "POST", "faults", kind="error")
    assert send(manager, "GET", "/relay/a/members").status_code == 500
    assert control(manager, "DELETE", "faults").json() == []
    assert send(manager, "GET", "/relay/a/members").status_code == 404


def test_a_fault_of_a_method_leaves_the_others_alone(manager):
    manager.fault("error", method="PATCH")

    assert send(manager, "POST", "/relay/a", config()).status_code == 201
    assert send(manager, "PATCH", "/relay/a", {"inactive": True}).status_code == 500
    assert "inactive" not in manager.relays["a"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_broken_connection_loses_the_work_or_only_its_answer(manager, when):
    manager.fault("reset", when=when, times=1)

    with pytest.raises(requests.ConnectionError):
        send(manager, "POST", "/relay/a", config())

    assert [*manager.relays] == {"before": [], "after": ["a"]}[when]


@pytest.mark.parametrize("when", ["before", "after"])
def test_silence_lasts_until_the_faults_are_cleared(manager, when):
    manager.fault("slow", when=when)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(send, manager, "POST", "/relay/a", config())
        deadline = time.monotonic() + 10
        while len(manager.requests) < 1 or (when == "after" and not manager.relays):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not answer.done()
        assert [*manager.relays] == {"before": [], "after": ["a"]}[when]
        manager.clear_faults()

        assert answer.result().status_code == 201
    assert [*manager.relays] == ["a"]


def test_answers_can_be_nonsense(manager):
    manager.set_members("a", [ANN])

    def spoilt(kind, **details):
        manager.fault(kind, times=1, **details)
        return send(manager, "GET", "/relay/a/members")

    assert spoilt("html", status=502).status_code == 502
    assert spoilt("html").headers["Content-Type"] == "text/html"
    assert spoilt("redirect").status_code == 302
    assert len(spoilt("huge").content) > HUGE
    assert spoilt("body", body='{"members": 1}', status=201).json() == {"members": 1}
    assert spoilt("drip", seconds=0).json() == {"members": []}
    with pytest.raises(ValueError):
        spoilt("garbage").json()
    assert send(manager, "GET", "/relay/a/members").json() == {"members": [ANN]}


def test_who_hangs_up_on_a_drip_does_no_harm(manager):
    manager.fault("drip", seconds=60)
    with requests.get(f"{manager.url}/relay/a", stream=True, timeout=10) as answer:
        assert answer.status_code == 200

    manager.clear_faults()
    assert send(manager, "GET", "/relay/a/members").status_code == 404


def test_relays_and_members_are_kept_in_a_file(tmp_path):
    path, keys = tmp_path / "relays.json", [pubkey_of(KEY)]
    with running_zooid(whitelist=keys, state=path) as zooid:
        send(zooid, "POST", "/relay/a", config())
        zooid.set_members("b", [BEN])
        before = zooid.relays
        send(zooid, "PATCH", "/relay/a", {"schema": "not valid"})

    assert path.stat().st_mode & 0o077 == 0
    with running_zooid(whitelist=keys, state=path) as zooid:
        assert zooid.relays == before
        assert zooid.members("b") == [BEN]
        send(zooid, "DELETE", "/relay/a")
    with running_zooid(whitelist=keys, state=path) as zooid:
        assert [*zooid.relays] == ["b"]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"else": 1}'])
def test_a_file_of_something_else_stops_the_start(tmp_path, text):
    path = tmp_path / "relays.json"
    path.write_text(text)

    with (
        pytest.raises(UnreadableState, match=r"relays\.json"),
        running_zooid(state=path),
    ):
        pass
    assert path.read_text() == text


def test_a_taken_port_is_named(manager):
    port = int(manager.url.rpartition(":")[2])

    with pytest.raises(CannotListen, match=str(port)), running_zooid(port=port):
        pass
