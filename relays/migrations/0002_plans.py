from django.db import migrations

PLANS = [
    {"id": "free", "name": "Free", "amount_cents": 0, "members": 10},
    {
        "id": "basic",
        "name": "Basic",
        "amount_cents": 500,
        "members": 100,
        "blossom": True,
    },
    {
        "id": "growth",
        "name": "Growth",
        "amount_cents": 2500,
        "members": None,
        "blossom": True,
        "livekit": True,
    },
]


def create_plans(apps, schema_editor):
    Plan = apps.get_model("relays", "Plan")
    Plan.objects.bulk_create(Plan(**plan) for plan in PLANS)


class Migration(migrations.Migration):
    dependencies = [("relays", "0001_initial")]

    operations = [migrations.RunPython(create_plans, migrations.RunPython.noop)]
