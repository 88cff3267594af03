"""The first screen of `make run`, printed once the system is ready."""

import os
import signal

from pynostr.key import PrivateKey

from sandbox.demo.readiness import answers, wait_until

SCREEN = """
  Caravel is running.

    admin      {web}/admin/   user admin, password {password}
    API        {web}/api/docs   (for tenants; requests are signed with Nostr keys)
    health     {web}/readyz
    Stripe     {stripe}/   (sandbox, no real money; status page)
    Lightning  {lightning}/   (sandbox: wallets, relay, prices; status page)
    zooid      {zooid}/   (sandbox: management of hosted relays; status page)

  Try this
    1. Add a tenant in the admin: any npub, for instance
       npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg
    2. Add a relay for it on the plan Basic.
    3. Look at Billing > Subscription syncs: the tenant is synced within seconds.
       Billing > Stripe events shows the webhooks that arrived.
    4. Change the plan or deactivate the relay, and look again.
    5. Billing > Invoice collections shows the first invoice, still open; Tenants >
       Notices shows the message to its tenant. Open the link in it to pay.
    6. Connect a wallet: copy the address of the wallet "rich" from the Lightning page,
       run   make manage ARGS="connect_wallet NPUB"   and paste it. The wallet pays
       what is still open, and all later invoices.
    7. On the Stripe page press + 1 month, then + 1 day: time passes for the whole
       system, and the wallet pays the next invoice. Connect the wallet "refuses", leave
       an invoice unpaid for a week, and see the relay go offline and, once it is paid,
       come back. Wait 15 seconds after each jump: beat's tasks run on real time. The
       admin asks for its password again.

    8. Act as a tenant, with a new key that is stored nowhere:
       export NSEC={nsec}
       .venv/bin/python docs/examples/call_api.py POST {web}/api/tenants '{{}}'

  Keys and passwords are for development only. They were generated for this checkout
  and are stored in {var}/development.env.

  In another terminal: make shell or make manage ARGS="reconcile".
  Ctrl-C stops everything; the data stays in {var}.
"""


def main() -> None:
    """Wait until the system is ready, print the screen, sleep until stopped."""
    web = os.environ["APP_URL"]
    lightning, zooid = os.environ["SANDBOX_LIGHTNING"], os.environ["ZOOID_API_URL"]
    wait_until(lambda: answers(f"{web}/readyz"), seconds=60, event="Start of the web")
    wait_until(lambda: answers(f"{lightning}/"), seconds=60, event="Start of Lightning")
    wait_until(lambda: answers(f"{zooid}/"), seconds=60, event="Start of zooid")
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
