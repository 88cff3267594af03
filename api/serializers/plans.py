from rest_framework import serializers

from relays.models import Plan


class PlanSerializer(serializers.ModelSerializer[Plan]):
    id = serializers.CharField(help_text="What relays name it by, such as `basic`.")
    currency = serializers.CharField(help_text="In small letters, such as `usd`.")
    amount_cents = serializers.IntegerField(
        help_text="A month's price in the currency's smallest unit; 0 is free."
    )
    members = serializers.IntegerField(
        allow_null=True, help_text="The most members; null is unlimited."
    )

    class Meta:
        model = Plan
        fields = (
            "id",
            "name",
            "amount_cents",
            "currency",
            "members",
            "blossom",
            "livekit",
        )
