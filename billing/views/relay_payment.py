"""`/relay-payment/<id>`: the page behind the payment prompt of a relay."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse

from billing.services.dunning.payment_prompts import relay_to_pay, send_payment_link
from tenants.views import EmailLinkView


class RelayPaymentView(EmailLinkView):
    """Button that sends the payment link to the relay's owner, whoever presses it."""

    def get(self, request: HttpRequest, relay_id: UUID) -> HttpResponse:
        relay = relay_to_pay(relay_id=relay_id)
        return self.page(
            f"An invoice for {relay.subdomain} is unpaid",
            "If this is your relay, we send you a message with the link to pay: on"
            " Nostr, and by e-mail if you have confirmed an address. If it is not,"
            " you need not do anything.",
            button="Send me the payment link",
        )

    def post(self, request: HttpRequest, relay_id: UUID) -> HttpResponse:
        send_payment_link(relay_id=relay_id)
        return self.page(
            "The payment link is on its way",
            "Its owner gets it as a private message on Nostr, and by e-mail if there is"
            " a confirmed address; at most once a day.",
        )
