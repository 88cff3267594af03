from django.db import migrations

FORBID = """
CREATE FUNCTION lightning_resolution_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'resolutions are append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER resolution_append_only BEFORE UPDATE OR DELETE ON lightning_resolution
    FOR EACH ROW EXECUTE FUNCTION lightning_resolution_append_only();
"""
ALLOW = """
DROP TRIGGER resolution_append_only ON lightning_resolution;
DROP FUNCTION lightning_resolution_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("lightning", "0005_wallet_proof_due_at")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
