"""Python names follow Stripe's terms; tables and columns keep theirs."""

import django.db.models.deletion
from django.db import migrations, models

COLLECTION = "invoicecollection"


def rename_permissions(old, new):
    """Return a step that renames the permissions, so that staff keep theirs."""

    def rename(apps, schema_editor):
        Permission = apps.get_model("auth", "Permission")
        rows = Permission.objects.using(schema_editor.connection.alias)
        for action in ("add", "change", "delete", "view"):
            rows.filter(
                content_type__app_label="billing", codename=f"{action}_{old}"
            ).update(
                codename=f"{action}_{new}",
                name=f"Can {action} {new.replace('stripe', 'stripe ')}",
            )

    return rename


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("billing", "0004_invoice_revision"),
    ]

    operations = [
        migrations.AlterModelTable("stripeintent", "billing_stripeintent"),
        migrations.RenameModel("StripeIntent", "StripeWrite"),
        migrations.RunPython(
            rename_permissions("stripeintent", "stripewrite"),
            rename_permissions("stripewrite", "stripeintent"),
        ),
        migrations.AlterField(
            "stripewrite",
            "tenant",
            models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="stripe_writes",
                to="tenants.tenant",
            ),
        ),
        migrations.AlterField(
            COLLECTION,
            "status",
            models.CharField(
                choices=[
                    ("draft", "Draft"),
                    ("open", "Open"),
                    ("paid", "Paid"),
                    ("void", "Void"),
                    ("uncollectible", "Uncollectible"),
                ],
                db_column="status",
                max_length=16,
            ),
        ),
        migrations.RenameField(COLLECTION, "status", "stripe_status"),
        migrations.AlterField(
            COLLECTION,
            "rungs_begun",
            models.PositiveSmallIntegerField(db_column="rungs_begun", default=0),
        ),
        migrations.RenameField(COLLECTION, "rungs_begun", "attempts_started"),
        migrations.AlterField(
            COLLECTION,
            "rung_begun_at",
            models.DateTimeField(blank=True, db_column="rung_begun_at", null=True),
        ),
        migrations.RenameField(COLLECTION, "rung_begun_at", "attempt_started_at"),
        migrations.AlterField(
            COLLECTION,
            "next_rail",
            models.CharField(
                blank=True,
                choices=[
                    ("", "nothing"),
                    ("wallet", "Wallet"),
                    ("card", "Card"),
                    ("notice", "Notice"),
                ],
                db_column="next_rail",
                default="",
                max_length=16,
            ),
        ),
        migrations.RenameField(COLLECTION, "next_rail", "next_action"),
        # The condition is on the same column: the index in the database stays.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveIndex(COLLECTION, "billing_collections_unpaid"),
                migrations.AddIndex(
                    COLLECTION,
                    models.Index(
                        condition=models.Q(
                            ("stripe_status__in", ["open", "uncollectible"])
                        ),
                        fields=["tenant", "suspend_at"],
                        name="billing_collections_unpaid",
                    ),
                ),
            ],
        ),
    ]
