from uuid import uuid4

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from relays.clients.zooid import Zooid
from relays.exceptions import (
    RelayExists,
    RelayMissing,
)

ANN = pubkey_of("1" * 64)
RELAY, OTHER = uuid4(), uuid4()

pytestmark = pytest.mark.django_db


def config(**changes):
    return {
        "host": "ann.relays.example",
        "schema": "ann",
        "secret": generate_secret_key(),
        "info": {"name": "Ann's", "pubkey": ANN},
        **changes,
    }


def test_created_relay_is_configured(zooid):
    sent = config()

    Zooid().create_relay(RELAY, sent)

    assert zooid.relays[str(RELAY)]["secret"] == sent["secret"]
    assert zooid.relays[str(RELAY)]["info"]["name"] == "Ann's"


def test_second_creation_raises_relay_exists_and_changes_nothing(zooid):
    Zooid().create_relay(RELAY, config())
    before = zooid.relays[str(RELAY)]

    with pytest.raises(RelayExists):
        Zooid().create_relay(RELAY, config(host="other.relays.example"))
    assert zooid.relays[str(RELAY)] == before


def test_patch_changes_only_its_fields(zooid):
    Zooid().create_relay(RELAY, config())
    before = zooid.relays[str(RELAY)]

    Zooid().patch_relay(RELAY, {"inactive": True, "info": {"name": "New"}})

    info = {**before["info"], "name": "New"}
    assert zooid.relays[str(RELAY)] == {**before, "inactive": True, "info": info}


def test_patch_of_unknown_relay_raises_relay_missing(zooid):
    with pytest.raises(RelayMissing):
        Zooid().patch_relay(RELAY, {"inactive": True})


def test_delete_reports_whether_there_was_a_relay(zooid):
    Zooid().create_relay(RELAY, config())

    assert Zooid().delete_relay(RELAY) is True
    assert Zooid().delete_relay(RELAY) is False
    assert zooid.relays == {}


def test_has_relay_finds_inactive_relay(zooid):
    assert Zooid().has_relay(RELAY) is False

    Zooid().create_relay(RELAY, config(inactive=True))

    assert Zooid().has_relay(RELAY) is True
