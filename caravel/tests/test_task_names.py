"""Names of the Celery tasks: messages in the broker outlive a deployment."""

from caravel.celery import app

NAMES = {
    "billing.tasks.check_prices",
    "billing.tasks.check_wallet",
    "billing.tasks.check_wallets",
    "billing.tasks.collect_invoice",
    "billing.tasks.discover_objects",
    "billing.tasks.complete_webhook_events",
    "billing.tasks.post_credit",
    "billing.tasks.process_due_events",
    "billing.tasks.process_stripe_event",
    "billing.tasks.pull_stripe_events",
    "billing.tasks.reconcile_subscriptions",
    "billing.tasks.remind_of_debt",
    "billing.tasks.review_dunning",
    "billing.tasks.review_tenant",
    "billing.tasks.run_reconciliation",
    "billing.tasks.sweep_collections",
    "billing.tasks.sweep_credits",
    "billing.tasks.sweep_reconciliations",
    "billing.tasks.sweep_stale_tenants",
    "billing.tasks.sweep_stripe_events",
    "billing.tasks.sync_subscription",
    "caravel.tasks.mail_alert",
    "lightning.tasks.ask_wallet",
    "lightning.tasks.check_decided_invoices",
    "lightning.tasks.check_payment_hashes",
    "lightning.tasks.prove_wallet",
    "lightning.tasks.prove_wallets",
    "lightning.tasks.resolve_payments",
    "lightning.tasks.run_nwc_payment",
    "lightning.tasks.watch_invoices",
    "relays.tasks.count_people",
    "relays.tasks.count_people_of_relay",
    "relays.tasks.export_relay",
    "relays.tasks.probe_relay_batch",
    "relays.tasks.probe_relays",
    "relays.tasks.review_suspended_relay",
    "relays.tasks.review_suspended_relays",
    "relays.tasks.sweep_relay_exports",
    "relays.tasks.sweep_relay_syncs",
    "relays.tasks.sync_relay",
    "tenants.tasks.look_up_name",
    "tenants.tasks.look_up_names",
    "tenants.tasks.publish_identity",
    "tenants.tasks.send_confirmation",
    "tenants.tasks.send_notice",
    "tenants.tasks.sweep_auth_events",
    "tenants.tasks.sweep_confirmations",
    "tenants.tasks.sweep_notices",
}


def test_registered_celery_tasks_have_their_published_names():
    app.loader.import_default_modules()

    assert {name for name in app.tasks if not name.startswith("celery.")} == NAMES
