from django.db import migrations

FORBID = """
CREATE FUNCTION tenants_activity_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'activities are append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER activity_append_only BEFORE UPDATE OR DELETE ON tenants_activity
    FOR EACH ROW EXECUTE FUNCTION tenants_activity_append_only();
"""
ALLOW = """
DROP TRIGGER activity_append_only ON tenants_activity;
DROP FUNCTION tenants_activity_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
