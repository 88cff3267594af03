from rest_framework import serializers

from relays.models import Plan


class PlanSerializer(serializers.ModelSerializer[Plan]):
    id = serializers.CharField(
        help_text="Id used in a relay's `plan`, such as `basic`."
    )
    currency = serializers.CharField(help_text="Lowercase ISO code, such as `usd`.")
    amount_cents = serializers.IntegerField(
        help_text="Monthly price in the currency's smallest unit; 0 is free."
    )
    members = serializers.IntegerField(
        allow_null=True, help_text="Maximum number of members; null is unlimited."
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
