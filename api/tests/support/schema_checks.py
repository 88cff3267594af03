"""Send requests to the API and check every response for errors and leaks."""

import json
import zlib
from base64 import b64encode
from collections import Counter
from itertools import product
from random import Random
from typing import Any
from urllib.parse import unquote, unquote_plus, urlencode, urlsplit

from django.conf import settings
from django.db import connection
from django.urls import resolve
from schemathesis import APIOperation, Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.tests.support.client import ApiClient
from api.tests.support.scenario import Scenario
from api.tests.support.signing import (
    INVALID_SIGNATURE_NAMES,
    SigningApp,
    UnsignedRequest,
    expected_code,
    invalid_signature,
    sign_request,
)
from api.views.base import NotFoundView
from billing.tests.support.event_matrix.fake_worker import rolled_back
from caravel.tests.support import secret_scanner

Operation = APIOperation[Any, Any, Any, Any]
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: The error for an invalid `nwc_url` quotes this; it looks like a secret.
_URL_SCHEME_HINT = "nostr+walletconnect://."
_AUTH_EVENTS = "tenants_usedauthevent"


def cursor(position: str, **more: str) -> str:
    """Return an encoded cursor, possibly an invalid one."""
    return b64encode(urlencode({"p": position, **more}).encode()).decode()


#: Positions in lists ordered by time, name and number, and invalid ones.
CURSORS = [
    cursor("2026-01-01 00:00:00+00:00"),
    cursor("2026-01-01 00:00:00+00:00", r="1", o="7"),
    cursor("canary-paid-free"),
    cursor("1"),
    cursor("", o="-1", r="x"),
    cursor("\0"),
    cursor("\ud800".encode(errors="surrogatepass").decode("latin-1")),
    cursor("9" * 400),
    cursor("-9" * 12),
    cursor("1e999"),
    cursor("infinity"),
    cursor("0001-01-01T00:00:00+23:59"),
    cursor("9999-12-31T23:59:59-23:59"),
    cursor("1", o="9" * 400),
    b64encode(b"p=%ff&p=1&o=1").decode(),
    "in_1",
]


class ApiChecker:
    """Sends cases, rolls back each one's changes, and counts them."""

    def __init__(self, scenario: Scenario, app: SigningApp) -> None:
        self._scenario = scenario
        self._app = app
        self.counts: Counter[str] = Counter()
        self._written: Counter[str] | None = None
        self._refused: set[tuple[str, str]] = set()

    def check_all_signers(self, operation: Operation) -> None:
        """Send one case per owner, signed by each client."""
        for case in self._case_per_owner(operation):
            for client in self._signers:
                self.check_signed(case, client)

    def check_cursors(self, operation: Operation) -> None:
        """Send each cursor to a list, for each field that it can be ordered by."""
        schemas = {each.name: each.definition["schema"] for each in operation.query}
        if "cursor" not in schemas:
            return
        orders = schemas.get("order", {}).get("enum", [])
        fields = [order for order in orders if not order.startswith("-")]
        for position, order in product(CURSORS, fields or [None]):
            (case, *_) = self._case_per_owner(operation)
            case.query = {"cursor": position} | ({"order": order} if order else {})
            self.check_signed(case, self._owner(case) or self._scenario.admin)

    def check_remaining_faults(self, operation: Operation) -> None:
        """Send a case in each invalid way that the operation has not refused yet."""
        case = self._case_per_owner(operation)[-1]
        for fault in INVALID_SIGNATURE_NAMES:
            if (operation.label, fault) not in self._refused:
                self.check_refused(case, fault)

    def check_randomly_signed(self, case: Case[Any]) -> None:
        """Send a case from a random signer, sometimes with an invalid signature.

        The same case always gets the same signer.
        """
        parts = [case.method, case.path, case.path_parameters, case.query, case.body]
        chance = Random(zlib.crc32(repr(parts).encode(errors="replace")))
        self._substitute_real_values(case, chance)
        if chance.random() < 0.3:
            self.check_refused(case, chance.choice(INVALID_SIGNATURE_NAMES))
        else:
            self.check_signed(case, self._signer(case, chance))

    def check_signed(self, case: Case[Any], client: ApiClient) -> None:
        """Send a signed case and check the response."""
        response, written = self._send(case, client.key, sign_request)
        require_schema_conformance(case, response)
        self._require_no_leak(response, client)
        assert response.status_code != 401 or self._app.is_url_rewritten, response.text
        is_reading = case.method in {"GET", "HEAD"}
        if is_reading or response.status_code == 401:
            assert set(written) <= {_AUTH_EVENTS}, written
        self.counts["signed"] += 1
        self.counts[f"by {self._signer_name(client)}"] += 1
        self.counts[f"{case.operation.label}: {response.status_code}"] += 1

    def check_refused(self, case: Case[Any], fault: str) -> None:
        """Send a case as an authorized client, but with an invalid signature."""
        client = self._owner(case) or self._scenario.admin
        response, written = self._send(case, client.key, invalid_signature(fault))
        require_schema_conformance(case, response)
        self._require_no_leak(response, None)
        self.counts["wrong"] += 1
        if _is_public(response):
            return
        code = expected_code(fault, self._app.sent)
        assert response.status_code == 401, (fault, response.text)
        if not self._app.is_url_rewritten:
            assert response.json()["code"] == code
        # For "a second time" the test itself has stored the used event.
        expected = {_AUTH_EVENTS: 1} if fault == "a second time" else {}
        assert dict(written) == expected, (fault, written)
        self.counts[code] += 1
        if (
            case.method.upper() == case.operation.method.upper()
            and not self._app.is_url_rewritten
        ):
            self._refused.add((case.operation.label, fault))

    def _case_per_owner(self, operation: Operation) -> list[Case[Any]]:
        names = [each.name for each in operation.path_parameters]
        # One id of each tenant; a relay's export belongs to the same one.
        ids = [self._scenario.one_id_per_owner(name) for name in names]
        return [
            operation.Case(
                path_parameters=dict(zip(names, values, strict=True)),
                body={} if operation.body else NOT_SET,
                media_type="application/json",
            )
            for values in (zip(*ids, strict=True) if ids else [()])
        ]

    def _send(
        self, case: Case[Any], key: str, sign: Any
    ) -> tuple[Response, Counter[str]]:
        """Return the response and the number of rows written per table."""
        self._app.key, self._app.sign = key, sign
        with rolled_back():
            before = self._written or _row_writes()
            self._written = None
            response = case.call()
            # After an internal error the transaction may be aborted.
            if response.status_code >= 500:
                return response, Counter()
            # Rolled back writes remain counted, hence the next request's start.
            self._written = _row_writes()
            return response, self._written - before

    def _require_no_leak(self, response: Response, client: ApiClient | None) -> None:
        """Require a response without secrets or other tenants' texts.

        Allowed are texts of the request itself and, for the owner, the preimage of a
        paid invoice: it proves the payment.
        """
        # A file is no text.
        content = response.content.decode(errors="replace")
        text = f"{content}\n{response.headers}"
        allowed = {
            _URL_SCHEME_HINT,
            *(
                preimage
                for each in self._scenario.tenants
                if client in (each.client, self._scenario.admin)
                for preimage in each.preimages
            ),
        }
        secret = {*secret_scanner.secrets.find_in(text)} - allowed
        assert not secret, response.text
        request = _request_text(self._app.sent)
        forbidden = self._scenario.forbidden_texts(client)
        leaks = {each for each in forbidden if each in text and each not in request}
        assert not leaks, (client and self._signer_name(client), leaks, response.text)

    def _substitute_real_values(self, case: Case[Any], chance: Random) -> None:
        """Replace many generated values by existing ones."""
        ids = self._scenario.ids
        case.path_parameters = {
            name: chance.choice(ids[name]) if chance.random() < 0.8 else value
            for name, value in (case.path_parameters or {}).items()
        }
        for name, values in {"tenant": ids["pubkey"], "cursor": CURSORS}.items():
            if name in (case.query or {}) and chance.random() < 0.5:
                case.query = {**case.query, name: chance.choice(values)}
        if isinstance(case.body, dict):
            case.body = self._body_with_real_values(case.body, chance)

    def _body_with_real_values(
        self, body: dict[str, Any], chance: Random
    ) -> dict[str, Any]:
        ids = self._scenario.ids
        real = {
            "nwc_url": self._scenario.wallet_url,
            "return_url": f"{settings.APP_URL}/back",
            "plan": chance.choice(ids["plan_id"]),
            "subdomain": chance.choice(
                [*self._scenario.taken_subdomains, "admin", "free-one"]
            ),
            "tenant": chance.choice(ids["pubkey"]),
        }
        chosen = {name: real[name] for name in real if chance.random() < 0.6}
        changed = {name: chosen.get(name, value) for name, value in body.items()}
        # Most callers create relays for themselves and omit the tenant.
        if chance.random() < 0.6:
            changed.pop("tenant", None)
        return changed

    def _signer(self, case: Case[Any], chance: Random) -> ApiClient:
        owner = self._owner(case)
        if owner and chance.random() < 0.5:
            return owner
        # Without a path parameter the operation is the operators' or the caller's own.
        if not case.path_parameters and chance.random() < 0.4:
            return self._scenario.admin
        return chance.choice(self._signers)

    @property
    def _signers(self) -> list[ApiClient]:
        tenants = [each.client for each in self._scenario.tenants]
        return [*tenants, self._scenario.stranger, self._scenario.admin]

    def _owner(self, case: Case[Any]) -> ApiClient | None:
        values = [str(value) for value in (case.path_parameters or {}).values()]
        owners = self._scenario.owners
        return next((owners[v].client for v in values if v in owners), None)

    def _signer_name(self, client: ApiClient) -> str:
        names = {id(each.client): each.name for each in self._scenario.tenants}
        names |= {
            id(self._scenario.stranger): "stranger",
            id(self._scenario.admin): "admin",
        }
        return names[id(client)]


def require_schema_conformance(case: Case[Any], response: Response) -> None:
    """Require a response as documented for the operation.

    A request that matches no operation must be refused as such.
    """
    if response.headers["content-type"] != ["application/json"]:
        # A file, if the operation's description says so.
        case.validate_response(response, checks=_CHECKS)
        return
    body = response.json()
    if case.method.upper() != case.operation.method.upper():
        assert response.status_code in {401, 404, 405}, response.text
    elif body.get("code") == "not-found" and _is_unknown_url(response):
        assert response.status_code == 404
    else:
        case.validate_response(response, checks=_CHECKS)
    names = {"data"} if body["code"] == "ok" else {"error"}
    assert names | {"code"} <= body.keys()
    assert (body["code"] == "ok") == (response.status_code < 300)


def _row_writes() -> Counter[str]:
    """Return the rows written by this transaction so far, per table."""
    # The columns of pg_stat_xact_user_tables; the view itself takes much longer.
    written = " + ".join(
        f"pg_stat_get_xact_tuples_{kind}(oid)"
        for kind in ("inserted", "updated", "deleted")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT relname, {written} FROM pg_class"
            f" WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
        return Counter(dict(cursor.fetchall()))


def _request_text(sent: UnsignedRequest) -> str:
    """Return the request's texts, both encoded and decoded."""
    body = sent.body.decode(errors="replace")
    try:
        decoded = json.dumps(json.loads(sent.body), ensure_ascii=False)
    except ValueError:
        decoded = ""
    return "\n".join([sent.url, unquote_plus(sent.url), body, decoded])


def _is_unknown_url(response: Response) -> bool:
    return getattr(_view(response), "cls", None) is NotFoundView


def _is_public(response: Response) -> bool:
    view = getattr(_view(response), "cls", None)
    return not getattr(view, "authentication_classes", None)


def _view(response: Response) -> Any:
    path = unquote(urlsplit(response.request.url or "").path)
    return resolve(path).func
