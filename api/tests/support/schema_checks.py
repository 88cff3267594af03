"""Sending requests to the API, and looking at each answer with suspicion."""

import json
import zlib
from base64 import b64encode
from collections import Counter
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

from api.tests.support.client import Person
from api.tests.support.scenario import World
from api.tests.support.signing import (
    WAYS,
    SigningApp,
    Unsigned,
    refusal,
    sign_wrongly,
    signed,
)
from api.views.base import NotFoundView
from billing.tests.support.event_matrix.fake_worker import undone
from caravel.tests.support import secret_scanner

Operation = APIOperation[Any, Any, Any, Any]
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: How a wallet's address begins, in the sentence that says so.
_EXAMPLE = "nostr+walletconnect://."
_AUTH_EVENTS = "tenants_usedauthevent"


def cursor(position: str, **more: str) -> str:
    """Return a cursor of our lists, whether a list would give it or not."""
    return b64encode(urlencode({"p": position, **more}).encode()).decode()


#: Positions in lists by time, by name and by number, and what is none.
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


class Judge:
    """Sends cases into a world of which nothing is changed, and counts them."""

    def __init__(self, world: World, app: SigningApp) -> None:
        self._world = world
        self._app = app
        self.counts: Counter[str] = Counter()

    def try_by_all(self, operation: Operation) -> None:
        """Send plain cases signed by each person, and signed in each wrong way."""
        names = [each.name for each in operation.path_parameters]
        # No operation has two: where there is one, there is one of each tenant.
        ids = [self._world.first_ids(name) for name in names] or [[""]]
        for id in ids[0]:
            case = operation.Case(
                path_parameters=dict.fromkeys(names, id),
                body={} if operation.body else NOT_SET,
                media_type="application/json",
            )
            for person in self._people:
                self.try_signed(case, person)
        for way in WAYS:
            self.try_wrongly(case, way)

    def try_by_chance(self, case: Case[Any]) -> None:
        """Send a case signed by somebody, or now and then signed in a wrong way.

        Who and how is the same whenever the same case is tried.
        """
        parts = [case.method, case.path, case.path_parameters, case.query, case.body]
        chance = Random(zlib.crc32(repr(parts).encode(errors="replace")))
        self._make_real(case, chance)
        if chance.random() < 0.3:
            self.try_wrongly(case, chance.choice(WAYS))
        else:
            self.try_signed(case, self._signer(case, chance))

    def try_signed(self, case: Case[Any], person: Person) -> None:
        """Send a case as somebody, and look at the answer."""
        response, written = self._send(case, person.key, signed)
        require_described(case, response)
        self._require_discretion(response, person)
        assert response.status_code != 401 or self._app.is_respelt, response.text
        is_reading = case.method in {"GET", "HEAD"}
        if is_reading or response.status_code == 401:
            assert set(written) <= {_AUTH_EVENTS}, written
        self.counts["signed"] += 1
        self.counts[f"by {self._name(person)}"] += 1
        self.counts[f"{case.operation.label}: {response.status_code}"] += 1

    def try_wrongly(self, case: Case[Any], way: str) -> None:
        """Send a case in the name of who might do it, signed in a wrong way."""
        person = self._owner(case) or self._world.admin
        response, written = self._send(case, person.key, sign_wrongly(way))
        require_described(case, response)
        self._require_discretion(response, None)
        self.counts["wrong"] += 1
        if _is_open(response):
            return
        code = refusal(way, self._app.sent)
        assert response.status_code == 401, (way, response.text)
        if not self._app.is_respelt:
            assert response.json()["code"] == code
        # The test has used the event up, before it is sent the second time.
        expected = {_AUTH_EVENTS: 1} if way == "a second time" else {}
        assert dict(written) == expected, (way, written)
        self.counts[code] += 1

    def _send(
        self, case: Case[Any], key: str, sign: Any
    ) -> tuple[Response, Counter[str]]:
        """Return the answer, and in which tables how many rows were written."""
        self._app.key, self._app.sign = key, sign
        with undone():
            before = _writes()
            response = case.call()
            # After a fault the transaction may be broken.
            is_ours = response.status_code >= 500
            return response, Counter() if is_ours else _writes() - before

    def _require_discretion(self, response: Response, person: Person | None) -> None:
        """Require that nothing is told that is secret, or somebody else's.

        What the caller has said itself may be in the answer; and the preimage of a paid
        invoice, which proves the payment, if it is the caller's.
        """
        told = f"{response.text}\n{response.headers}"
        allowed = {
            _EXAMPLE,
            *(
                preimage
                for each in self._world.residents
                if person in (each.person, self._world.admin)
                for preimage in each.preimages
            ),
        }
        secret = {*secret_scanner.secrets.find_in(told)} - allowed
        assert not secret, response.text
        asked = _asked(self._app.sent)
        forbidden = self._world.forbidden(person)
        found = {text for text in forbidden if text in told and text not in asked}
        assert not found, (person and self._name(person), found, response.text)

    def _make_real(self, case: Case[Any], chance: Random) -> None:
        """Put what there is in the place of much of what was made up."""
        ids = self._world.ids
        case.path_parameters = {
            name: chance.choice(ids[name]) if chance.random() < 0.8 else value
            for name, value in (case.path_parameters or {}).items()
        }
        for name, values in {"tenant": ids["pubkey"], "cursor": CURSORS}.items():
            if name in (case.query or {}) and chance.random() < 0.5:
                case.query = {**case.query, name: chance.choice(values)}
        if isinstance(case.body, dict):
            case.body = self._real_body(case.body, chance)

    def _real_body(self, body: dict[str, Any], chance: Random) -> dict[str, Any]:
        ids = self._world.ids
        real = {
            "nwc_url": self._world.wallet_url,
            "return_url": f"{settings.APP_URL}/back",
            "plan": chance.choice(ids["plan_id"]),
            "subdomain": chance.choice([*self._world.taken, "admin", "free-one"]),
            "tenant": chance.choice(ids["pubkey"]),
        }
        chosen = {name: real[name] for name in real if chance.random() < 0.6}
        changed = {name: chosen.get(name, value) for name, value in body.items()}
        # Most callers mean themselves, and do not say so.
        if chance.random() < 0.6:
            changed.pop("tenant", None)
        return changed

    def _signer(self, case: Case[Any], chance: Random) -> Person:
        owner = self._owner(case)
        if owner and chance.random() < 0.5:
            return owner
        # What is nobody's is of operators, or the caller's own.
        if not case.path_parameters and chance.random() < 0.4:
            return self._world.admin
        return chance.choice(self._people)

    @property
    def _people(self) -> list[Person]:
        residents = [each.person for each in self._world.residents]
        return [*residents, self._world.stranger, self._world.admin]

    def _owner(self, case: Case[Any]) -> Person | None:
        values = [str(value) for value in (case.path_parameters or {}).values()]
        owners = self._world.owners
        return next((owners[v].person for v in values if v in owners), None)

    def _name(self, person: Person) -> str:
        names = {id(each.person): each.name for each in self._world.residents}
        names |= {id(self._world.stranger): "stranger", id(self._world.admin): "admin"}
        return names[id(person)]


def require_described(case: Case[Any], response: Response) -> None:
    """Require the answer to be as the operation is described.

    What is no operation is refused as such.
    """
    body = response.json()
    assert response.headers["content-type"] == ["application/json"]
    if case.method.upper() != case.operation.method.upper():
        assert response.status_code in {401, 404, 405}, response.text
    elif body.get("code") == "not-found" and _is_nothing(response):
        assert response.status_code == 404
    else:
        case.validate_response(response, checks=_CHECKS)
    names = {"data"} if body["code"] == "ok" else {"error"}
    assert names | {"code"} <= body.keys()
    assert (body["code"] == "ok") == (response.status_code < 300)


def _writes() -> Counter[str]:
    """Return how many rows this transaction has written so far, by table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del"
            " FROM pg_stat_xact_user_tables"
        )
        return Counter(dict(cursor.fetchall()))


def _asked(sent: Unsigned) -> str:
    """Return what a caller has said, as sent and as meant."""
    body = sent.body.decode(errors="replace")
    try:
        meant = json.dumps(json.loads(sent.body), ensure_ascii=False)
    except ValueError:
        meant = ""
    return "\n".join([sent.url, unquote_plus(sent.url), body, meant])


def _is_nothing(response: Response) -> bool:
    return getattr(_view(response), "cls", None) is NotFoundView


def _is_open(response: Response) -> bool:
    view = getattr(_view(response), "cls", None)
    return not getattr(view, "authentication_classes", None)


def _view(response: Response) -> Any:
    path = unquote(urlsplit(response.request.url or "").path)
    return resolve(path).func
