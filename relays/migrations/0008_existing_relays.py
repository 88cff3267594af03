from django.db import migrations
from django.db.models import F


def queue_existing_relays(apps, schema_editor):
    """Have zooid told of all relays, and go on billing those that were billed.

    Without a first proof, billing would stop until zooid serves them.
    """
    Relay = apps.get_model("relays", "Relay")
    RelaySync = apps.get_model("relays", "RelaySync")
    existing = Relay.objects.filter(deleted_at=None)
    existing.update(first_served_at=F("created_at"), synced=False)
    RelaySync.objects.bulk_create(
        (RelaySync(relay_id=pk, version=1) for pk in existing.values_list("pk", flat=True)),
        batch_size=1000,
    )


class Migration(migrations.Migration):
    dependencies = [("relays", "0007_provisioning")]

    operations = [
        migrations.RunPython(queue_existing_relays, migrations.RunPython.noop)
    ]
