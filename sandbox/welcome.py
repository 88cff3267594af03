"""The first screen of `make run`: shown when the system answers, then it waits."""

import os
import signal

from pynostr.key import PrivateKey

from sandbox.readiness import answers, wait_until

SCREEN = """
  Caravel is running.

    admin      {web}/admin/   user admin, password {password}
    API        {web}/api/docs   (what tenants call; signed by Nostr keys)
    health     {web}/readyz
    Stripe     {stripe}/   (the sandbox: no money, no account; a page to look at)
    Lightning  {lightning}/   (its wallets, relay and prices; a page to look at)
    zooid      {zooid}/   (where relays are hosted, or would be; a page to look at)

  Try this
    1. In the admin add a tenant: any npub, for instance
       npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg
    2. Add a relay for it on the plan Basic.
    3. Look at Billing > Subscription syncs: the tenant is in step within seconds, and
       Billing > Stripe events shows the webhooks that came back.
    4. Change the plan, or deactivate the relay, and look again.
    5. Look at Billing > Invoice collections: the first invoice is open; at Tenants >
       Notices: its tenant was told. Open the link in the text to pay it.
    6. Connect a wallet: copy the address of rich from the sandbox Lightning's page, and
       give it to   make manage ARGS="connect_wallet NPUB"   It pays at once.
    7. On the sandbox Stripe's page press + 1 month, then + 1 day: time passes for the
       whole system, and the wallet pays the next invoice. Let another one (refuses)
       fail, do not pay for a week, and see the relay go off and come back. After so
       long a time the admin asks for its password again.

    8. Be a tenant yourself, with a key that was made just now and is kept nowhere:
       export NSEC={nsec}
       .venv/bin/python docs/examples/call_api.py POST {web}/api/tenants '{{}}'

  Its keys and passwords are for development only, made for this checkout and kept in
  {var}/development.env.

  In another terminal: make shell, or make manage ARGS="reconcile".
  Ctrl-C stops everything; the data stays in {var}.
"""


def main() -> None:
    """Wait for the web process, print the screen and sleep until stopped."""
    web = os.environ["APP_URL"]
    lightning, zooid = os.environ["SANDBOX_LIGHTNING"], os.environ["ZOOID_API_URL"]
    wait_until(lambda: answers(f"{web}/readyz"), seconds=60, what="the web's answer")
    wait_until(lambda: answers(f"{lightning}/"), seconds=60, what="the wallets' answer")
    wait_until(lambda: answers(f"{zooid}/"), seconds=60, what="zooid's answer")
    print(
        SCREEN.format(
            web=web,
            stripe=os.environ["STRIPE_API_BASE"],
            lightning=lightning,
            zooid=zooid,
            nsec=PrivateKey().bech32(),
            password=os.environ["ADMIN_PASSWORD"],
            var=os.environ["CARAVEL_VAR"],
        ),
        flush=True,
    )
    signal.pause()


if __name__ == "__main__":
    main()
