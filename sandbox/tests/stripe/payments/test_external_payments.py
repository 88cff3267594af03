"""Payments out of band, which an account lists as payment records, or not at all."""

from sandbox.tests.support.stripe import builders


def pay_out_of_band(api):
    invoice = builders.open_invoice(api)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    return api.v1.invoices.retrieve(invoice.id, {"expand": ["payments"]})


def test_payment_out_of_band_is_not_listed(api):
    paid = pay_out_of_band(api)

    payments = [(item.payment.type, item.status) for item in paid.payments.data]
    assert payments == [("payment_intent", "canceled")]


def test_payment_out_of_band_is_listed_with_a_payment_record(api, stripe_sandbox):
    stripe_sandbox.settings(out_of_band_payments="payment_record")

    paid = pay_out_of_band(api)

    listed, default = paid.payments.data
    record = api.v1.payment_records.retrieve(listed.payment.payment_record)
    assert (default.payment.type, default.status) == ("payment_intent", "canceled")
    assert (listed.status, listed.amount_paid, listed.is_default) == (
        "paid",
        1_000,
        False,
    )
    assert "payment_intent" not in listed.payment
    assert (record.amount.value, record.reported_by) == (1_000, "self")
    assert "invoice_payment.paid" in builders.event_types(api)


def test_payments_are_listed_by_status_and_payment(api, stripe_sandbox):
    stripe_sandbox.settings(out_of_band_payments="payment_record")
    record = pay_out_of_band(api).payments.data[0].payment

    by_status = api.v1.invoice_payments.list({"status": "paid"}).data
    by_payment = api.v1.invoice_payments.list(
        {
            "payment": {
                "type": "payment_record",
                "payment_record": record.payment_record,
            }
        }
    ).data

    assert [item.payment.payment_record for item in by_status] == [
        record.payment_record
    ]
    assert [item.id for item in by_payment] == [by_status[0].id]
    assert api.v1.invoice_payments.retrieve(by_status[0].id).status == "paid"
