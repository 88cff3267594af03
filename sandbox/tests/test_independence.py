"""Each stand-in could be a package of its own: it runs without all other packages."""

import subprocess
import sys

import pytest

from sandbox.tests.support.sandbox_command import ROOT, clean_environment

pytestmark = pytest.mark.processes

CARAVEL = ("caravel", "tenants", "relays", "lightning", "billing", "api", "interop")
BLOCKED = (
    *("django", "rest_framework", "celery"),
    *CARAVEL,
    *("sandbox.apps", "sandbox.demo", "sandbox.management", "sandbox.tests"),
)
IMPORT_HOOK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{blocked}.") for blocked in BLOCKED):
            raise ImportError(f"{name} is not part of the package")

sys.meta_path.insert(0, Blocker())
"""
STRIPE = """
from sandbox.stripe.client.testing import running_sandbox

with running_sandbox() as sandbox:
    client = sandbox.client()
    print(client.v1.customers.create({"email": "ann@example.com"}).email)
"""
ZOOID = """
import requests
from sandbox.zooid import running_zooid

with running_zooid() as zooid:
    zooid.set_members("ID", ["ab" * 32])
    assert requests.get(f"{zooid.url}/_sandbox/relays").json()["ID"]["members"]
    assert requests.get(f"{zooid.url}/relay/ID/members").status_code == 401
    nip11 = {"Host": zooid.relays["ID"]["host"], "Accept": "application/nostr+json"}
    assert requests.get(zooid.url, headers=nip11).json()["self"]
    print(requests.get(f"{zooid.url}/").status_code)
"""
LIGHTNING = """
import requests
from sandbox.lightning import running_lightning
from sandbox.lightning.client import Control

with running_lightning() as lightning:
    control = Control(lightning.url)
    bolt11 = control.post("wallets/platform/invoices", sats=21)["bolt11"]
    assert control.post("wallets/rich/pay", bolt11=bolt11)["state"] == "paid"
    assert requests.get(lightning.prices.urls[0].format(currency="usd")).ok
    print(requests.get(f"{lightning.url}/").status_code)
"""
LIGHTNING_PARTS = ("lightning", "wallets", "nostr", "prices")


@pytest.mark.parametrize(
    ("others", "code", "output"),
    [
        ((*LIGHTNING_PARTS, "zooid"), STRIPE, "ann@example.com"),
        # Its relays share the parts of the Nostr relay.
        (("lightning", "wallets", "prices", "stripe"), ZOOID, "200"),
        (("stripe", "zooid"), LIGHTNING, "200"),
    ],
    ids=["stripe", "zooid", "lightning"],
)
def test_stand_in_runs_without_all_other_packages(tmp_path, others, code, output):
    blocked = (*BLOCKED, *(f"sandbox.{name}" for name in others))

    process = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {blocked!r}{IMPORT_HOOK}{code}"],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (process.stdout.strip(), process.stderr) == (output, "")
