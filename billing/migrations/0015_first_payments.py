from django.db import migrations
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce, Least

MONEY = ["wallet", "lightning", "card", "elsewhere"]


def record_first_payments(apps, schema_editor):
    """Set when each tenant first paid, from its invoices and Lightning payments."""
    tenants = apps.get_model("tenants", "Tenant").objects
    invoices = apps.get_model("billing", "InvoiceCollection").objects
    settlements = apps.get_model("billing", "Settlement").objects
    paid_at = Coalesce("closed_at", "finalized_at", "created_at")
    paid = invoices.filter(tenant=OuterRef("pk"), paid_by__in=MONEY).annotate(at=paid_at)
    booked = settlements.filter(
        collection__tenant=OuterRef("pk"), resolved_at__isnull=False
    )
    # The earlier of both: PostgreSQL's LEAST ignores NULL.
    first = Least(
        Subquery(paid.order_by("at").values("at")[:1]),
        Subquery(booked.order_by("resolved_at").values("resolved_at")[:1]),
    )
    tenants.filter(first_paid_at=None).update(first_paid_at=first)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_dispute_debts"),
        ("tenants", "0009_confirmed_email"),
    ]

    operations = [
        migrations.RunPython(record_first_payments, migrations.RunPython.noop)
    ]
