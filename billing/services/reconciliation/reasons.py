"""Reasons why a sync would change something, each as a query.

Together they say what `subscriptions.sync` does, step by step. They read these tables:
`checked`, the tenants with what is stored about them; `listed`, the subscriptions of
their customers, which are `own` or `strange`; `current`, the subscription that
`subscriptions.diff.find_current` would find; `wanted`, the quantity per price of their
billable relays, and `goal`, what of it a subscription can be given now.
"""

#: Query of the tenants' keys, by reason.
REASONS = {
    "missing": """
        SELECT pubkey FROM goal LEFT JOIN current USING (pubkey)
        WHERE current.id IS NULL
    """,
    "customer_missing": """
        SELECT pubkey FROM checked JOIN wanted USING (pubkey)
        WHERE customer IS NULL AND wanted.price IS NOT NULL
    """,
    "customer_details": """
        SELECT pubkey FROM checked, settings
        WHERE customer IS NOT NULL AND NOT (
            CASE WHEN email <> '' AND email_confirmed_at IS NOT NULL
                THEN given_email = email
                ELSE given_email LIKE 'npub1%%' AND substr(given_email, 64) = email_end
            END
            AND CASE WHEN display_name <> '' THEN given_name = display_name
                ELSE given_name LIKE 'npub1_______…_____'
            END
        )
    """,
    "surplus": """
        SELECT pubkey FROM own
        LEFT JOIN current USING (pubkey) LEFT JOIN goal USING (pubkey)
        WHERE own.is_live
            AND (own.id IS DISTINCT FROM current.id OR goal.pubkey IS NULL)
    """,
    "unpaid": "SELECT pubkey FROM own WHERE status IN ('unpaid', 'incomplete')",
    "unreadable": "SELECT pubkey FROM listed WHERE status = 'unreadable'",
    "quantity": """
        SELECT pubkey FROM current JOIN goal USING (pubkey)
        WHERE NOT current.items @> goal.items
    """,
    "unwanted_price": """
        SELECT pubkey FROM current JOIN goal USING (pubkey)
        WHERE current.items - goal.prices <> '{}' OR current.item_count
            <> (SELECT count(*) FROM jsonb_object_keys(current.items))
    """,
    "collection_method": """
        SELECT pubkey FROM current JOIN goal USING (pubkey)
        WHERE current.collection_method <> 'send_invoice'
    """,
    "metadata": """
        SELECT pubkey FROM current JOIN goal USING (pubkey)
        WHERE current.tenant_pubkey <> pubkey
    """,
    "current_id": """
        SELECT pubkey FROM current JOIN checked USING (pubkey)
        LEFT JOIN goal USING (pubkey)
        WHERE current.id IS DISTINCT FROM current_id
            AND (current.status = 'paused' OR goal.pubkey IS NOT NULL)
    """,
    "ended": """
        SELECT pubkey FROM checked
        LEFT JOIN own USING (pubkey, customer)
        WHERE customer IS NOT NULL AND current_id IS NOT NULL
        GROUP BY pubkey, current_id HAVING NOT coalesce(
            bool_or(own.id = current_id AND (own.is_live OR own.status = 'paused')),
            false
        )
    """,
    "unnoticed_end": """
        SELECT pubkey FROM checked
        JOIN billing_invoicecollection collection ON collection.tenant_id = pubkey
        WHERE customer IS NOT NULL AND collection.state <> 'closed'
            AND collection.stripe_subscription_id IS DISTINCT FROM current_id
            AND NOT EXISTS (
                SELECT FROM billing_stagedsubscription listed
                WHERE listed.id = collection.stripe_subscription_id
                    AND listed.status NOT IN ('canceled', 'incomplete_expired')
            )
            AND NOT EXISTS (
                SELECT FROM billing_stripeintent write
                WHERE write.kind = 'subscription.cancel' AND write.stripe_id <> ''
                    AND write.subject = collection.stripe_subscription_id
            )
    """,
    "pause": """
        SELECT pubkey FROM current JOIN checked USING (pubkey)
        WHERE (current.id = current_id OR current.status = 'paused') AND NOT (
            CASE WHEN current.status = 'paused'
                THEN checked.paused_id = current.id AND checked.paused_at IS NOT NULL
                    AND coalesce(current.paused_at, checked.paused_at)
                        = checked.paused_at
                ELSE checked.paused_id = '' AND checked.paused_at IS NULL
            END
            AND current.pause_behavior = collection_pause
            AND current.pause_resumes_at IS NOT DISTINCT FROM collection_resumes_at
        )
    """,
    "terms": """
        SELECT pubkey FROM current JOIN checked USING (pubkey)
        WHERE current.discounts IS DISTINCT FROM
                jsonb_path_query_array(terms -> 'discounts', '$[*].id')
            OR current.tax_rates IS DISTINCT FROM terms -> 'tax_rates'
            OR current.item_terms IS DISTINCT FROM terms -> 'item_terms'
    """,
    "unknown_invoice": """
        SELECT pubkey FROM own
        WHERE latest_invoice <> '' AND NOT EXISTS (
            SELECT FROM billing_invoicecollection
            WHERE stripe_invoice_id = latest_invoice
        )
    """,
    "not_ours": """
        SELECT pubkey FROM strange JOIN checked USING (pubkey)
        WHERE NOT foreign_ids ? strange.id
    """,
    "not_billed": """
        SELECT pubkey FROM wanted JOIN checked USING (pubkey)
        LEFT JOIN goal USING (pubkey)
        WHERE (wanted.price IS NULL OR wanted.problem <> '')
            AND NOT coalesce(goal.items ? wanted.price, false)
    """,
    "payment_block": """
        SELECT pubkey FROM checked LEFT JOIN current USING (pubkey)
        WHERE checked.customer IS NOT NULL AND current.status IS DISTINCT FROM 'paused'
            AND (is_blocked <> (overdue_since IS NOT NULL)
                OR is_on_hold <> (on_hold_since IS NOT NULL))
    """,
    "pending_write": """
        SELECT pubkey FROM checked
        JOIN billing_stripeintent write ON write.tenant_id = pubkey
        LEFT JOIN wanted USING (pubkey)
        WHERE write.state = 'pending' AND (
            write.kind = 'subscription.cancel'
            OR write.kind IN ('customer.create', 'subscription.create')
            AND (write.tried_at IS NOT NULL OR wanted.price IS NULL)
        )
    """,
    "changed_end": """
        SELECT pubkey FROM checked
        JOIN billing_stripeintent write ON write.tenant_id = pubkey
        WHERE write.kind = 'subscription.cancel'
            AND write.params ?& ARRAY['terms', 'changes'] AND write.params -> 'changes'
                IS DISTINCT FROM write.params -> 'credited_changes'
    """,
}
