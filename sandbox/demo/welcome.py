"""The first screen of `make run`, printed once the system is ready."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pynostr.key import PrivateKey

from sandbox import clock
from sandbox.demo.readiness import wait_until_ready

#: With the names of environment variables.
SCREEN = """
  Caravel is running.{ahead}

    home       {APP_URL}/   (for visitors: the plans, and how to begin)
    admin      {APP_URL}/admin/   user admin, password {ADMIN_PASSWORD}
    API        {APP_URL}/api/docs   (for tenants; requests are signed with Nostr keys)
    health     {APP_URL}/readyz
    Stripe     {STRIPE_API_BASE}/   (sandbox, no real money; status page)
    Lightning  {SANDBOX_LIGHTNING}/   (sandbox: wallets, relay, prices; status page)
    zooid      {ZOOID_API_URL}/   (sandbox: the server of the relays; status page)

  Try this
    1. Add a tenant in the admin: any npub, for instance
       npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg
    2. Add a relay for it on the plan Basic, with a subdomain such as "birds". Seconds
       later it runs: open http://birds.{RELAY_DOMAIN} in a browser, or
       curl -H "Accept: application/nostr+json" http://birds.{RELAY_DOMAIN}
    3. Look at Billing > Subscription syncs: the tenant is synced within seconds.
       Billing > Stripe events shows the webhooks that arrived.
    4. Billing > Invoice collections shows the first invoice, still open; Tenants >
       Notices shows the message to its tenant. Open the tenant's payment page from the
       invoice to pay as they would.
    5. Connect a wallet: copy the address of the wallet "rich" from the Lightning page,
       run   make manage ARGS="connect_wallet NPUB"   and paste it. The wallet pays
       what is still open, and all later invoices.
    6. Change the plan of the relay, and look at Billing > Subscription syncs again.
    7. On the Stripe page press + 1 month, then + 1 day: time passes for the whole
       system, and the wallet pays the next invoice. Wait 15 seconds after each jump:
       beat's tasks run on real time. The admin asks for its password again.
       Connect the wallet "refuses" instead, press both again for an unpaid invoice, and
       advance by 1 week: Relays > Relays shows the relay as delinquent, and its address
       answers 404. Connect "rich" again: it pays within two minutes, and the relay
       answers again.
    8. Act as a tenant, with a new key that is stored nowhere:
       export NSEC={nsec}
       .venv/bin/python docs/examples/call_api.py POST {APP_URL}/api/tenants '{{}}'
       docs/api.md goes on from there.

  Keys and passwords are for development only. They were generated for this checkout
  and are stored in {CARAVEL_VAR}/development.env.

  In another terminal: make shell or make manage ARGS="reconcile".
  Ctrl-C stops everything; the data stays in {CARAVEL_VAR}. `make reset` deletes it.
"""
_AHEAD = """

  Its clock is {days} days ahead, from an earlier run. `make reset` deletes all data;
  the next start is at the real time."""


def welcome(env: Mapping[str, str]) -> str:
    """Wait until the system is ready; return the screen. Raises NotReady."""
    for url in ("{APP_URL}/readyz", "{SANDBOX_LIGHTNING}/", "{ZOOID_API_URL}/"):
        wait_until_ready(url.format_map(env))
    return screen(env)


def screen(env: Mapping[str, str]) -> str:
    """Return the screen of a system with this environment, and a new key."""
    values = {**env, "nsec": PrivateKey().bech32(), "ahead": _ahead(env)}
    return SCREEN.format_map(values)


def _ahead(env: Mapping[str, str]) -> str:
    offset = clock.read_offset(Path(env[clock.VARIABLE]))
    return _AHEAD.format(days=round(offset / timedelta(days=1))) if offset else ""
