"""`make run` and zooid: the system's own robot may manage it, and asks it."""

import pytest
import requests

from caravel import dev_defaults
from caravel.nostr import generate_secret_key, pubkey_of
from sandbox.tests.test_run import address, running, wait_until_gone
from sandbox.tests.test_run_lightning import Run

pytestmark = pytest.mark.processes

#: What an operator may have set for the real thing; the run must not touch it.
REAL = {
    "ZOOID_API_URL": "https://zooid.example",
    "ROBOT_SECRET": generate_secret_key(),
}
TELL_MEMBERS = """
from relays.models import Relay
from relays.services.members import list_members
from relays.tests.factories import RelayFactory
relay = Relay.objects.first() or RelayFactory()
print(f"{relay.pk}: {list_members(relay_id=relay.pk)}")
"""


def test_members_are_asked_of_the_sandbox_and_kept_there(tmp_path):
    ann = pubkey_of(generate_secret_key())
    with running(tmp_path, **REAL) as (process, screen):
        run = Run(tmp_path, process, screen)
        zooid = address(screen, "zooid").rstrip("/")
        assert dev_defaults.defaults(tmp_path)["ZOOID_API_URL"] == zooid
        told = run.manage("shell", "-c", TELL_MEMBERS).splitlines()[-1]
        relay_id, _, members = told.partition(": ")
        assert members == "[]", told

        url = f"{zooid}/_sandbox/relays/{relay_id}/members"
        assert requests.post(url, json={"members": [ann]}, timeout=10).ok
        told = run.manage("shell", "-c", TELL_MEMBERS)
        assert told.splitlines()[-1] == f"{relay_id}: ['{ann}']"
    wait_until_gone(tmp_path)
    # What is kept there is read again by the next start.
    kept = (tmp_path / "sandbox-zooid.json").read_text()
    assert relay_id in kept and ann in kept
