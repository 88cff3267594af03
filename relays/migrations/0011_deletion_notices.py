import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("relays", "0010_owner_words"),
        ("tenants", "0012_relay_syncs"),
    ]

    operations = [
        migrations.AddField(
            model_name="relay",
            name="export_offered_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="relay",
            name="deletion_notice",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                help_text="Warning that named this date: without one, nothing is deleted.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="tenants.notice",
            ),
        ),
        migrations.AddIndex(
            model_name="relay",
            index=models.Index(
                condition=models.Q(("status", "delinquent")),
                fields=["deletion_at"],
                name="relays_delinquent_relays",
            ),
        ),
    ]
