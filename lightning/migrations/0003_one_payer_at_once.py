from django.db import migrations

# Two transactions that do not see each other yet: one shows an invoice, the other gives
# it to a wallet. The lock makes the second wait, and see what the first did.
WAIT = """
CREATE OR REPLACE FUNCTION lightning_one_payer_payment() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM lightning_lightninginvoice WHERE id = NEW.invoice_id FOR NO KEY UPDATE;
    IF EXISTS (
        SELECT 1 FROM lightning_lightninginvoice
        WHERE id = NEW.invoice_id AND shown_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'an invoice shown to a person is given to no wallet'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
DO_NOT_WAIT = WAIT.replace(
    "    PERFORM 1 FROM lightning_lightninginvoice "
    "WHERE id = NEW.invoice_id FOR NO KEY UPDATE;\n",
    "",
)


class Migration(migrations.Migration):
    dependencies = [("lightning", "0002_one_payer")]

    operations = [migrations.RunSQL(WAIT, DO_NOT_WAIT)]
