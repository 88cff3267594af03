from django.db import migrations

# Two payers can pay one payment hash, and the second payment is lost: an invoice is
# shown to a person or given to a wallet, never both. And a request is sent once: its id
# never changes.
FORBID = """
CREATE FUNCTION lightning_one_payer_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.shown_at IS NOT NULL AND EXISTS (
        SELECT 1 FROM lightning_nwcpayment WHERE invoice_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'an invoice given to a wallet is shown to nobody'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_payer BEFORE UPDATE OF shown_at ON lightning_lightninginvoice
    FOR EACH ROW EXECUTE FUNCTION lightning_one_payer_invoice();

CREATE FUNCTION lightning_one_payer_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Two transactions that do not see each other yet: the lock makes the second wait.
    PERFORM 1 FROM lightning_lightninginvoice
        WHERE id = NEW.invoice_id FOR NO KEY UPDATE;
    IF EXISTS (
        SELECT 1 FROM lightning_lightninginvoice
        WHERE id = NEW.invoice_id AND shown_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'an invoice shown to a person is given to no wallet'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_payer BEFORE INSERT ON lightning_nwcpayment
    FOR EACH ROW EXECUTE FUNCTION lightning_one_payer_payment();

CREATE FUNCTION lightning_one_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.request_event_id IS NOT NULL
        AND NEW.request_event_id IS DISTINCT FROM OLD.request_event_id THEN
        RAISE EXCEPTION 'an attempt has one request ever'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_request BEFORE UPDATE OF request_event_id ON lightning_nwcpayment
    FOR EACH ROW EXECUTE FUNCTION lightning_one_request();
"""
ALLOW = """
DROP TRIGGER one_request ON lightning_nwcpayment;
DROP FUNCTION lightning_one_request();
DROP TRIGGER one_payer ON lightning_nwcpayment;
DROP FUNCTION lightning_one_payer_payment();
DROP TRIGGER one_payer ON lightning_lightninginvoice;
DROP FUNCTION lightning_one_payer_invoice();
"""


class Migration(migrations.Migration):
    dependencies = [("lightning", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
