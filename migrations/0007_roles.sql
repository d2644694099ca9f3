-- Who may do what. Each service drops to its role when it connects; nobody but the owner of the schema has
-- more than is listed here. So what a service must not do is not a question of its code.
--
-- careforall_writer     command-api, webhook-ingest: append commands, keep messages, sessions and requests of
--                       refunds
-- careforall_projector  projectors: read the ledger, write the read tables
-- careforall_reader     query-api: read the read tables
-- careforall_auditor    replay: read the ledger and the read tables, no personal data
-- careforall_sandbox    payment-sandbox: its own books
-- careforall_analyst    people with SQL: the views of the schema analytics

-- Roles belong to the whole server, so another database of it may have made them already.
do $$
declare
    name text;
begin
    foreach name in array array['writer', 'projector', 'reader', 'auditor', 'sandbox', 'analyst'] loop
        begin
            execute format('create role careforall_%s nologin', name);
        exception when duplicate_object or unique_violation then
            null;
        end;
        -- Whoever migrates is also whom the services log in as before they drop to their role.
        execute format('grant careforall_%s to %I', name, current_user);
    end loop;
end;
$$;

-- The ledger. Nobody may insert an event: the function is the only way in, and only for those who append
-- commands.
grant execute on function ledger_append to careforall_writer;
grant execute on function pledge_of_payment to careforall_writer;
grant select on events, ledger_head to careforall_writer, careforall_projector, careforall_auditor;
-- The key that links addresses to pseudonyms is for those who make pseudonyms.
grant select on ledger_identity to careforall_writer;
grant select (ledger_id) on ledger_identity to careforall_projector, careforall_reader, careforall_auditor;
-- The donation wall shows names and messages, and never an address.
grant select (position, donor_id, name, message) on pledge_donors to careforall_reader;
grant execute on function pledge_donor_of to careforall_writer;

-- The inbox. Nobody may delete a message: what is old goes by the function.
grant select, insert, update on webhook_inbox to careforall_writer;
grant select, insert on webhook_inbox_acts to careforall_writer;
grant select, insert, update on corrections to careforall_writer;
grant execute on function webhook_inbox_claim, webhook_inbox_prune to careforall_writer;
grant select on webhook_inbox, webhook_inbox_acts, corrections to careforall_auditor;

-- Payments. What was asked for as a refund is not changed any more.
grant select, insert, update on payment_sessions to careforall_writer;
grant select, insert, update (refund_id, next_check_at, checks, ended_at)
    on refund_requests to careforall_writer;
grant select on payment_sessions, refund_requests to careforall_auditor;

-- Read tables.
grant select, insert, update, delete
    on projector_checkpoints, campaigns, campaign_totals, campaign_totals_history, campaign_first_gifts,
        campaign_donors, campaign_captures, pledges, pledge_history, donations, pledge_captures,
        unapplied_payments, campaign_days, overall_days, journal, campaign_accounts
    to careforall_projector;
grant select
    on projector_checkpoints, campaigns, campaign_totals, campaign_totals_history, campaign_first_gifts,
        campaign_donors, campaign_captures, pledges, pledge_history, donations, pledge_captures,
        unapplied_payments, campaign_days, overall_days, journal, campaign_accounts, account_entries,
        account_balances
    to careforall_reader, careforall_auditor;
grant select on projection_rebuilds to careforall_auditor;
-- Who lets pledges expire finds those that are overdue.
grant select (pledge_id, status, created_at) on pledges to careforall_writer;
grant select (reason, status) on unapplied_payments to careforall_writer;

-- Analytics. Views read with the rights of their owner, so the role needs no right to any table.
grant usage on schema analytics to careforall_analyst;
grant select on all tables in schema analytics to careforall_analyst;

-- The sandbox provider.
grant usage on schema sandbox to careforall_sandbox;
grant select, insert, update, delete
    on sandbox.sessions, sandbox.facts, sandbox.refunds, sandbox.disputes, sandbox.deliveries, sandbox.dial
    to careforall_sandbox;
grant select on sandbox.true_facts to careforall_sandbox;
