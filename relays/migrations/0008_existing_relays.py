from django.db import migrations
from django.db.models import CharField, F, OuterRef, Subquery
from django.db.models.functions import Cast


def queue_existing_relays(apps, schema_editor):
    """Have zooid told of all relays, and go on billing those that were billed.

    Without a first proof, billing would stop until zooid serves them.
    """
    Relay = apps.get_model("relays", "Relay")
    RelaySync = apps.get_model("relays", "RelaySync")
    # Also of deleted relays, which lines of past invoices name.
    Relay.objects.update(first_served_at=F("created_at"), synced=False)
    existing = Relay.objects.filter(deleted_at=None)
    RelaySync.objects.bulk_create(
        (RelaySync(relay_id=pk, version=1) for pk in existing.values_list("pk", flat=True)),
        batch_size=1000,
    )


def set_begin_of_suspensions(apps, schema_editor):
    """Set since when relays are switched off by billing, as the notices name it."""
    Relay = apps.get_model("relays", "Relay")
    suspensions = apps.get_model("tenants", "Activity").objects.filter(
        type="mark_relay_delinquent",
        subject_type="relay",
        subject_id=Cast(OuterRef("pk"), CharField()),
    )
    last = suspensions.order_by("-pk").values("created_at")[:1]
    Relay.objects.filter(status="delinquent").update(delinquent_since=Subquery(last))


class Migration(migrations.Migration):
    dependencies = [
        ("relays", "0007_provisioning"),
        ("tenants", "0011_names_and_deleted_relays"),
    ]

    operations = [
        migrations.RunPython(queue_existing_relays, migrations.RunPython.noop),
        migrations.RunPython(set_begin_of_suspensions, migrations.RunPython.noop),
    ]
