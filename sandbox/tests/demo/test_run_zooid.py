"""`make run` with zooid: the robot's key manages it."""

import pytest
import requests

from caravel import dev_defaults
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support.waiting import LIMIT
from sandbox.tests.support.running_system import (
    Run,
    address,
    running,
    wait_until_gone,
)

pytestmark = pytest.mark.processes

#: Real services in the environment, which the run must not use.
PRODUCTION = {
    "ZOOID_API_URL": "https://zooid.example",
    "ROBOT_SECRET": generate_secret_key(),
}
PRINT_MEMBERS = """
from relays.models import Relay
from relays.services.members import list_members
from relays.tests.factories import RelayFactory
relay = Relay.objects.first() or RelayFactory()
print(f"{relay.pk}: {list_members(relay_id=relay.pk)}")
"""


def test_members_are_fetched_from_the_sandbox_and_stored_there(tmp_path):
    ann = pubkey_of(generate_secret_key())
    with running(tmp_path, **PRODUCTION) as (process, screen):
        run = Run(tmp_path, process, screen)
        zooid = address(screen, "zooid").rstrip("/")
        assert dev_defaults.defaults(tmp_path)["ZOOID_API_URL"] == zooid
        line = run.manage("shell", "-c", PRINT_MEMBERS).splitlines()[-1]
        relay_id, _, members = line.partition(": ")
        assert members == "[]", line

        url = f"{zooid}/_sandbox/relays/{relay_id}/members"
        assert requests.post(url, json={"members": [ann]}, timeout=LIMIT).ok
        line = run.manage("shell", "-c", PRINT_MEMBERS)
        assert line.splitlines()[-1] == f"{relay_id}: ['{ann}']"
    wait_until_gone(tmp_path)
    # The next start reads this file.
    state = (tmp_path / "sandbox-zooid.json").read_text()
    assert relay_id in state and ann in state
