"""The OpenAPI description, and the example in the documentation."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import structlog
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator
from pynostr.key import PrivateKey

from api.views import docs
from caravel.core.exceptions import CaravelError
from caravel.core.web import startup
from caravel.nostr import npub, pubkey_of
from caravel.tests.support.waiting import LIMIT
from tenants.models import Tenant

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLE = API_PAGE.parent / "examples" / "call_api.py"


@pytest.fixture(scope="module")
def schema():
    GENERATOR_STATS.reset()
    generated = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS
    return json.loads(json.dumps(generated))


@pytest.mark.django_db
def test_schema_is_public_and_valid_openapi_3_1(schema):
    response = Client().get("/api/schema")

    assert response.status_code == 200
    served = json.loads(response.content)
    assert served["openapi"] == "3.1.0"
    assert served["paths"].keys() == schema["paths"].keys()
    validate_schema(served)


def test_schema_is_built_once_also_by_simultaneous_first_requests(db, monkeypatch):
    built = []
    get_schema = SchemaGenerator.get_schema

    def count(generator, **options):
        built.append(1)
        return get_schema(generator, **options)

    monkeypatch.setattr(SchemaGenerator, "get_schema", count)
    docs._build.cache_clear()
    barrier = Barrier(8, timeout=LIMIT)

    def get(_) -> int:
        barrier.wait()
        return Client().get("/api/schema").status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(get, range(8))) == [200] * 8
    assert built == [1]


def test_web_process_builds_the_schema_before_it_serves():
    docs._build.cache_clear()

    startup.prepare()

    assert docs._build.cache_info().currsize == 1


def test_unchanged_schema_is_not_sent_again(client):
    first = client.get("/api/schema")
    again = client.get("/api/schema", headers={"If-None-Match": first["ETag"]})
    other = client.get("/api/schema", headers={"If-None-Match": '"other"'})

    assert [each.status_code for each in (first, again, other)] == [200, 304, 200]
    assert first["Cache-Control"] == "public, no-cache"
    assert again.content == b""


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs"])
def test_description_is_throttled(client, settings, path):
    settings.API_RATE_PER_ADDRESS = "2/hour"

    responses = [client.get(path) for _ in range(3)]

    assert [each.status_code for each in responses] == [200, 200, 429]


def test_description_of_the_schema_explains_signing(schema, settings):
    description = schema["info"]["description"]

    assert (
        f"signs receipts as `{npub(pubkey_of(settings.ROBOT_SECRET))}`" in description
    )
    assert "Each request is signed: [NIP-98]" in description


def test_every_operation_is_fully_documented(schema):
    operations = [op for path in schema["paths"].values() for op in path.values()]

    assert len(operations) == 31
    assert len({op["operationId"] for op in operations}) == 31
    for op in operations:
        assert op["summary"] and op["description"]
        assert "429" in op["responses"]
        is_public = op["tags"] == ["plans"]
        assert ("401" in op["responses"]) is not is_public
        assert op["security"] == ([{}] if is_public else [{"nostr": []}])
    scheme = schema["components"]["securitySchemes"]["nostr"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "nostr")


def test_every_tag_is_declared_and_described(schema):
    operations = [op for path in schema["paths"].values() for op in path.values()]

    declared = {tag["name"]: tag["description"] for tag in schema["tags"]}

    assert {tag for op in operations for tag in op["tags"]} == declared.keys()
    assert all(declared.values())


def test_empty_string_is_one_of_the_values_of_its_enum(schema):
    schemas = schema["components"]["schemas"]

    assert "" in schemas["PaidBy"]["enum"] and "" in schemas["HoldEnum"]["enum"]
    assert "" not in schemas["InvoiceStatus"]["enum"]
    assert "BlankEnum" not in json.dumps(schema)


@pytest.mark.parametrize("icon", ["", "https://example.com/icon.png"])
def test_icon_may_be_a_url_or_empty_for_validators_that_ignore_formats(schema, icon):
    field = schema["components"]["schemas"]["RelayCreate"]["properties"]["icon"]

    assert Draft202012Validator(field).is_valid(icon)


def test_every_error_code_is_explained(schema):
    for path in schema["paths"].values():
        for op in path.values():
            for status, response in op["responses"].items():
                if status < "300":
                    continue
                media = response["content"]["application/json"]["schema"]
                for code in media["properties"]["code"]["enum"]:
                    assert f"- `{code}`: " in response["description"]
                    assert code != CaravelError.code
                # A class name, used when there is no docstring, explains nothing.
                assert not any(
                    len(line.split()) < 4
                    for line in response["description"].split("\n")
                ), response["description"]


def test_docs_page_loads_nothing_from_other_hosts(client):
    response = client.get("/api/docs")

    page = response.content.decode()
    assert "http://" not in page.replace("http://localhost", "")
    links = {"https://github.com/nostr-protocol/nips/blob/master/98.md"}
    assert set(re.findall(r'https://[^"]*', page)) == links
    assert "<script>" not in page
    assert "default-src 'none'" in response["Content-Security-Policy"]


def test_docs_page_lists_every_operation_without_javascript(client, schema):
    page = client.get("/api/docs").content.decode()

    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            text = operation["description"].partition("\n\n")[0]
            row = f"<td>{method.upper()}</td><td><code>{path}</code></td><td>"
            assert row + html.escape(text) in page


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_documented_example_opens_an_account(live_server, settings):
    settings.APP_URL = live_server.url
    key = PrivateKey()

    def call(method: str, path: str, *body: str) -> Any:
        command = [sys.executable, EXAMPLE, method, live_server.url + path, *body]
        environment = {**os.environ, "NSEC": key.bech32()}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    opened = call("POST", "/api/tenants", "{}")
    changed = call(
        "PATCH", f"/api/tenants/{key.public_key.hex()}", '{"email": "ann@example.com"}'
    )

    assert opened["data"]["pubkey"] == key.public_key.hex()
    assert changed["data"]["email"] == "ann@example.com"
    assert Tenant.objects.get().email == "ann@example.com"
    assert len(EXAMPLE.read_text().splitlines()) < 50


@contextmanager
def another_server() -> Iterator[str]:
    """URL of a web server that is not Caravel."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("nsec", "arguments", "message"),
    [
        (None, ("GET", "http://127.0.0.1:1/api/identity"), "Usage: NSEC=nsec1"),
        ("nsec1" + "q" * 58, ("GET",), "Usage: NSEC=nsec1"),
        ("nsec1" + "q" * 58, ("GET", "http://127.0.0.1:1/"), "not a secret key"),
        (PrivateKey().bech32(), ("GET", "http://127.0.0.1:1/"), "No response"),
        (PrivateKey().bech32(), ("GET", "{other}/"), "No response: 501"),
        (PrivateKey().bech32(), ("GE T", "{caravel}/api/identity"), "Method"),
    ],
    ids=["no key", "no address", "no key's spelling", "no server", "other", "method"],
)
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_documented_example_explains_a_mistake_without_a_traceback(
    live_server, nsec, arguments, message
):
    environment = {name: each for name, each in os.environ.items() if name != "NSEC"}
    if nsec:
        environment["NSEC"] = nsec

    with another_server() as other:
        urls = {"caravel": live_server.url, "other": other}
        done = subprocess.run(
            [sys.executable, EXAMPLE, *(each.format(**urls) for each in arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_documented_example_sends_only_signed_requests_to_the_api(
    live_server, settings
):
    settings.APP_URL = live_server.url
    environment = {**os.environ, "NSEC": PrivateKey().bech32()}
    url = live_server.url + "/api/identity"

    with structlog.testing.capture_logs() as logs:
        done = subprocess.run(
            [sys.executable, EXAMPLE, "GET", url],
            env=environment,
            capture_output=True,
            timeout=60,
        )

    assert done.returncode == 0, done.stderr
    assert [log for log in logs if log.get("log_level") == "warning"] == []


@pytest.mark.usefixtures("prices")
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_four_documented_calls_lead_from_a_key_to_a_relay(live_server, settings):
    settings.APP_URL = live_server.url
    key = PrivateKey()
    commands = re.findall(r"```sh\n(.*?)```", API_PAGE.read_text(), re.DOTALL)[0]
    assert len(re.findall(r"(?m)^call ", commands)) == 4
    values = {"nsec1…": key.bech32(), "http://127.0.0.1:8000": live_server.url}
    for placeholder, value in values.items():
        assert placeholder in commands
        commands = commands.replace(placeholder, value)

    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=API_PAGE.parents[1],
        env={**os.environ, "PUBKEY": key.public_key.hex()},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    responses = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["code"] for each in responses] == ["ok"] * 4, responses
    assert responses[2]["data"]["status"] == "active"
    assert "payment_url" in responses[3]["data"]
