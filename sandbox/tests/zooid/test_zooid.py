"""The management API of the sandbox zooid over a real socket."""

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from caravel.nostr.http_auth import HTTP_AUTH, authorization
from caravel.tests.support.waiting import result_of, wait_until
from sandbox.common.nostr import (
    generate_secret_key,
    npub,
    pubkey_of,
    short_npub,
    sign_event,
)
from sandbox.common.state import UnreadableState
from sandbox.tests.support.zooid import ANN, BEN, KEY, config, control, send
from sandbox.zooid import CannotListen, running_zooid
from sandbox.zooid.faults import HUGE


def test_relay_can_be_created_replaced_patched_and_deleted(zooid):
    first, second = config(groups={"enabled": True}), config("two")

    created = send(zooid, "POST", "/relay/a", first)
    assert (created.status_code, [*created.json()]) == (201, ["message"])
    assert zooid.relays["a"]["groups"] == {"enabled": True}

    assert send(zooid, "PUT", "/relay/a", second).status_code == 200
    assert zooid.relays["a"]["host"] == "two.relays.example"
    assert "groups" not in zooid.relays["a"]

    patch = {"info": {"description": "Ours", "name": None}, "inactive": True}
    assert send(zooid, "PATCH", "/relay/a", patch).status_code == 200
    assert zooid.relays["a"]["info"] == {"pubkey": ANN, "description": "Ours"}
    assert zooid.relays["a"]["inactive"] is True
    assert zooid.relays["a"]["secret"] == second["secret"]

    assert send(zooid, "DELETE", "/relay/a").status_code == 200
    assert zooid.relays == {}


def test_second_manager_patches_the_same_relay():
    other_key = generate_secret_key()
    with running_zooid(whitelist=[pubkey_of(KEY), pubkey_of(other_key)]) as zooid:
        send(zooid, "POST", "/relay/a", first := config())
        again = send(zooid, "POST", "/relay/a", config("two"), key=other_key)
        assert again.json() == {"error": "relay with this id already exists"}
        body = {"info": {"name": "theirs"}}
        assert send(zooid, "PATCH", "/relay/a", body, key=other_key).ok

        assert zooid.relays["a"]["info"]["name"] == "theirs"
        assert zooid.relays["a"]["secret"] == first["secret"]
        assert zooid.reloads("a") == 2


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_changing_an_unknown_relay_is_404(zooid, method):
    answer = send(zooid, method, "/relay/a", config())

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
def test_unknown_paths_and_methods_are_refused(zooid, method, path, status):
    answer = send(zooid, method, path, config() if method == "POST" else None)

    assert (answer.status_code, [*answer.json()]) == (status, ["error"])


def test_id_schema_and_host_must_be_unique(zooid):
    assert send(zooid, "POST", "/relay/a", config()).status_code == 201
    assert send(zooid, "POST", "/relay/b", config("two")).status_code == 201
    same_schema, same_host = config("c"), config("c")
    same_schema["schema"], same_host["host"] = "relay_one", "one.relays.example"

    assert send(zooid, "POST", "/relay/a", config("c")).status_code == 409
    for body, text in (
        (same_schema, 'schema "relay_one" is already in use'),
        (same_host, 'host "one.relays.example" is already in use'),
    ):
        answer = send(zooid, "POST", "/relay/c", body)
        assert (answer.status_code, answer.json()) == (409, {"error": text})
    assert send(zooid, "PUT", "/relay/b", same_host).status_code == 409
    assert send(zooid, "PATCH", "/relay/b", {"schema": "relay_one"}).status_code == 409
    # A relay may keep its own schema.
    assert send(zooid, "PATCH", "/relay/a", {"schema": "relay_one"}).status_code == 200
    assert {*zooid.relays} == {"a", "b"}


@pytest.mark.parametrize(
    "invalid",
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
def test_invalid_configuration_is_refused(zooid, invalid):
    good = config()
    assert send(zooid, "POST", "/relay/a", {**good, **invalid}).status_code == 400
    assert send(zooid, "POST", "/relay/a", good).status_code == 201
    if invalid != {"info": {}}:  # a patch with nothing in it
        assert send(zooid, "PATCH", "/relay/a", invalid).status_code == 400
    assert send(zooid, "PUT", "/relay/a", {**good, **invalid}).status_code == 400
    for field in ("host", "schema", "secret"):
        assert zooid.relays["a"][field] == good[field]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"\xff", b"[" * 100_000])
def test_body_that_is_not_a_json_object_is_refused(zooid, body):
    url = f"{zooid.url}/relay/a"
    headers = {"Authorization": authorization(KEY, url=url, method="POST", body=body)}

    answer = requests.post(url, data=body, headers=headers, timeout=60)

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


INVALID_SIGNATURES = {
    "nothing": lambda url: "",
    "another scheme": lambda url: header(u=url, method="GET").replace("Nostr", "Basic"),
    "no base64": lambda url: "Nostr ???",
    "no event": lambda url: f"Nostr {b64encode(b'[1]').decode()}",
    "another kind": lambda url: header(kind=1, u=url, method="GET"),
    "an invalid signature": tampered,
    "no address": lambda url: header(method="GET"),
    "another path": lambda url: header(u=f"{url}/", method="GET"),
    "a query": lambda url: header(u=f"{url}?a=b", method="GET"),
    "https": lambda url: header(u=url.replace("http", "https", 1), method="GET"),
    "no method": lambda url: header(u=url),
    "another method": lambda url: header(u=url, method="POST"),
}


@pytest.mark.parametrize("invalid", INVALID_SIGNATURES)
def test_request_with_an_invalid_signature_is_401(zooid, invalid):
    zooid.set_members("a", [ANN])
    signature = INVALID_SIGNATURES[invalid](f"{zooid.url}/relay/a/members")

    answer = send(
        zooid, "GET", "/relay/a/members", headers={"Authorization": signature}
    )

    assert (answer.status_code, [*answer.json()]) == (401, ["error"])


def test_key_that_is_not_whitelisted_is_403(zooid):
    unknown_key = generate_secret_key()

    answer = send(zooid, "POST", "/relay/a", config(), key=unknown_key)
    assert answer.status_code == 403
    assert zooid.relays == {}


def test_signed_url_has_https_behind_a_proxy(zooid):
    zooid.set_members("a", [ANN])
    url = f"{zooid.url}/relay/a/members".replace("http", "https", 1)
    headers = {
        "Authorization": header(u=url, method="get"),
        "X-Forwarded-Proto": "https",
    }

    assert send(zooid, "GET", "/relay/a/members", headers=headers).status_code == 200


def test_api_is_not_served_on_another_host_name(zooid):
    port = zooid.url.rpartition(":")[2]
    url = f"http://localhost:{port}/relay/a/members"
    headers = {"Authorization": authorization(KEY, url=url, method="GET")}

    answer = requests.get(url, headers=headers, timeout=60)

    assert (answer.status_code, answer.text) == (404, "Not Found\n")


def test_members_include_the_relay_itself_its_owner_and_roles(zooid):
    cat, dan = (pubkey_of(generate_secret_key()) for _ in range(2))
    roles = {"admin": {"pubkeys": [BEN], "can_manage": True}, "member": {}}
    send(zooid, "POST", "/relay/a", first := config(roles=roles))
    own = pubkey_of(first["secret"])

    def members():
        return send(zooid, "GET", "/relay/a/members").json()["members"]

    # Not only people: zooid admits the relay's own key, its owner and all with a role.
    assert members() == [own, ANN, BEN]
    zooid.set_members("a", [cat])
    assert members() == [cat, own, ANN, BEN]
    # Nobody leaves with the role, or as the owner of before.
    patch = {"roles": {"admin": None}, "info": {"pubkey": dan}}
    send(zooid, "PATCH", "/relay/a", patch)
    assert members() == [cat, own, ANN, BEN, dan]
    # Members are in the relay's database, which outlives its configuration.
    send(zooid, "DELETE", "/relay/a")
    assert send(zooid, "GET", "/relay/a/members").status_code == 404
    send(zooid, "POST", "/relay/a", {**first, "roles": {}})
    assert members() == [cat, own, ANN, BEN, dan]


def test_setting_members_creates_an_unknown_relay(zooid):
    for relay_id in ("3f0c-1", "3f0c-2"):
        body = control(zooid, "POST", f"relays/{relay_id}/members", members=[npub(ANN)])
        assert body.json()["members"] == [ANN, zooid.own_pubkey(relay_id)]

    relays = control(zooid, "GET", "relays").json()
    assert {*relays} == {"3f0c-1", "3f0c-2"}
    assert "secret" not in json.dumps(relays)
    members = send(zooid, "GET", "/relay/3f0c-1/members").json()["members"]
    assert members == [ANN, zooid.own_pubkey("3f0c-1")]


def test_invalid_control_request_is_refused(zooid):
    invalid: list[tuple[str, str, dict[str, object], int]] = [
        ("POST", "relays/a/members", {"members": ["nobody"]}, 400),
        ("POST", "relays/a/members", {"member": [ANN]}, 400),
        ("POST", "faults", {"kind": "mood"}, 400),
        ("POST", "faults", {"kind": "error", "status": 99}, 400),
        ("GET", "nothing", {}, 404),
    ]
    for method, path, body, status in invalid:
        answer = control(zooid, method, path, **body)
        assert (answer.status_code, [*answer.json()]) == (status, ["error"])
    assert zooid.relays == {}


def test_control_refuses_other_hosts_and_origins(zooid):
    url = f"{zooid.url}/_sandbox/relays"
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert requests.get(url, headers=headers, timeout=60).status_code == 403


@pytest.mark.parametrize("config", [{}, {"host": "a.example"}, {"schema": "a"}])
def test_relay_written_by_hand_that_lacks_fields_is_dark_and_listed(zooid, config):
    relay = control(zooid, "POST", "relays/a", config=config).json()

    assert (relay["members"], relay["served"]) == ([], False)
    page = requests.get(f"{zooid.url}/", timeout=60)
    assert page.status_code == 200 and 'id="a"' in page.text


def test_page_shows_relays_and_faults(zooid):
    relay_config = config(groups={"enabled": True}, inactive=True)
    send(
        zooid,
        "POST",
        "/relay/a",
        {**relay_config, "info": {"name": "<b>", "pubkey": ANN}},
    )
    zooid.set_members("a", [ANN, *[BEN] * 11])
    zooid.fault("reset", method="PUT", times=3)

    page = requests.get(f"{zooid.url}/", timeout=60)

    assert page.status_code == 200
    for text in ("one.relays.example", short_npub(ANN), "and 3 more", "dark"):
        assert text in page.text
    for text in ("groups", "&lt;b&gt;", "before processing PUT", "3 left"):
        assert text in page.text
    assert "<b>" not in page.text
    assert relay_config["secret"] not in page.text
    style = requests.get(f"{zooid.url}/_pages/lightning.css", timeout=60)
    assert style.headers["Content-Type"].startswith("text/css")
    assert requests.get(f"{zooid.url}/_pages/none", timeout=60).status_code == 404
    evil = {"Host": "evil.example"}
    assert requests.get(zooid.url, headers=evil, timeout=60).status_code == 404


def test_control_adds_and_clears_faults(zooid):
    added = control(
        zooid, "POST", "faults", kind="error", method="GET", status=502, times=2
    ).json()
    assert added["kind"] == "error"
    assert added["method"] == "GET"
    assert added["times"] == 2
    assert control(zooid, "GET", "faults").json()["data"] == [added]

    answers = [send(zooid, "GET", "/relay/a/members").status_code for _ in range(3)]
    assert answers == [502, 502, 404]

    control(zooid, "POST", "faults", kind="error")
    assert send(zooid, "GET", "/relay/a/members").status_code == 500
    assert control(zooid, "DELETE", "faults").json() == {"data": []}
    assert send(zooid, "GET", "/relay/a/members").status_code == 404


def test_fault_with_a_method_does_not_affect_others(zooid):
    zooid.fault("error", method="PATCH")

    assert send(zooid, "POST", "/relay/a", config()).status_code == 201
    assert send(zooid, "PATCH", "/relay/a", {"inactive": True}).status_code == 500
    assert "inactive" not in zooid.relays["a"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_reset_fault_loses_the_request_or_only_its_response(zooid, when):
    zooid.fault("reset", when=when, times=1)

    with pytest.raises(requests.ConnectionError):
        send(zooid, "POST", "/relay/a", config())

    assert [*zooid.relays] == {"before": [], "after": ["a"]}[when]


@pytest.mark.parametrize("when", ["before", "after"])
def test_slow_fault_ends_when_the_faults_are_cleared(zooid, when):
    zooid.fault("slow", when=when)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(send, zooid, "POST", "/relay/a", config())
        wait_until(lambda: zooid.requests and (when == "before" or zooid.relays))
        assert not answer.done()
        assert [*zooid.relays] == {"before": [], "after": ["a"]}[when]
        zooid.clear_faults()

        assert result_of(answer, "the answer").status_code == 201
    assert [*zooid.relays] == ["a"]


def test_zooid_faults_can_return_invalid_responses(zooid):
    zooid.set_members("a", [ANN])

    def faulty_response(kind, **details):
        zooid.fault(kind, times=1, **details)
        return send(zooid, "GET", "/relay/a/members")

    assert faulty_response("html", status=502).status_code == 502
    assert faulty_response("html").headers["Content-Type"] == "text/html"
    assert faulty_response("redirect").status_code == 302
    assert len(faulty_response("huge").content) > HUGE
    assert faulty_response("body", body='{"members": 1}', status=201).json() == {
        "members": 1
    }
    assert faulty_response("drip", seconds=0).json() == {"members": []}
    with pytest.raises(ValueError):
        faulty_response("garbage").json()
    members = send(zooid, "GET", "/relay/a/members").json()["members"]
    assert members == [ANN, zooid.own_pubkey("a")]


def test_client_can_disconnect_during_a_drip(zooid):
    zooid.fault("drip", seconds=60)
    with requests.get(f"{zooid.url}/relay/a", stream=True, timeout=60) as answer:
        assert answer.status_code == 200

    zooid.clear_faults()
    assert send(zooid, "GET", "/relay/a/members").status_code == 404


def test_relays_and_members_survive_a_restart(tmp_path):
    path, keys = tmp_path / "relays.json", [pubkey_of(KEY)]
    with running_zooid(whitelist=keys, state=path) as zooid:
        send(zooid, "POST", "/relay/a", config())
        zooid.set_members("b", [BEN])
        before = zooid.relays
        send(zooid, "PATCH", "/relay/a", {"schema": "not valid"})

    assert path.stat().st_mode & 0o077 == 0
    with running_zooid(whitelist=keys, state=path) as zooid:
        assert zooid.relays == before
        assert zooid.members("b") == [BEN, zooid.own_pubkey("b")]
        send(zooid, "DELETE", "/relay/a")
    with running_zooid(whitelist=keys, state=path) as zooid:
        assert [*zooid.relays] == ["b"]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"else": 1}'])
def test_invalid_state_file_stops_the_start(tmp_path, text):
    path = tmp_path / "relays.json"
    path.write_text(text)

    with (
        pytest.raises(UnreadableState, match=r"relays\.json"),
        running_zooid(state=path),
    ):
        pass
    assert path.read_text() == text


def test_taken_port_is_named_in_the_error(zooid):
    port = int(zooid.url.rpartition(":")[2])

    with pytest.raises(CannotListen, match=str(port)), running_zooid(port=port):
        pass
