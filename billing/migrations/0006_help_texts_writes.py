"""Plainer labels and help texts; no change to the database."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_rename_to_field_terms'),
    ]

    operations = [
        migrations.AlterField(
            model_name='credit',
            name='collection',
            field=models.ForeignKey(blank=True, help_text='Invoice to reduce; for an overpayment it is chosen when posting.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='credits', to='billing.invoicecollection'),
        ),
        migrations.AlterField(
            model_name='credit',
            name='reason',
            field=models.CharField(choices=[('surplus', 'overpayment'), ('unserved', 'unused time')], max_length=16),
        ),
        migrations.AlterField(
            model_name='credit',
            name='source',
            field=models.CharField(help_text='Identifies the cause: one credit per reason and source.', max_length=255),
        ),
        migrations.AlterField(
            model_name='stripewrite',
            name='subject',
            field=models.CharField(help_text='Tenant, credit or Stripe object that the write is for.', max_length=255),
        ),
    ]
