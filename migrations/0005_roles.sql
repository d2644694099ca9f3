-- Who may do what. Each service drops to its role when it connects; nobody but the owner of the
-- schema has more than is listed here.
--
-- careforall_writer     command-api, webhook-ingest: append commands, keep webhooks
-- careforall_projector  projectors: read the ledger, write the read tables, append commands
-- careforall_reader     query-api: read the read tables
-- careforall_auditor    replay: read the ledger and the read tables, no personal data
-- careforall_sandbox    payment-sandbox: its own books

-- Roles belong to the whole server, so another database of it may have made them already.
do $$
declare
    name text;
begin
    foreach name in array array['writer', 'projector', 'reader', 'auditor', 'sandbox'] loop
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

-- The function is the only way into the ledger: with the rights of its owner it gives positions
-- out under the lock, and no role can insert an event past it.
alter function ledger_append security definer;
alter function ledger_append set search_path = public, pg_temp;
revoke all on function ledger_append from public;
grant execute on function ledger_append to careforall_writer, careforall_projector;

grant select on events, ledger_head to careforall_writer, careforall_projector, careforall_auditor;

-- The key that links addresses to pseudonyms is for those who make pseudonyms.
grant select on ledger_identity to careforall_writer;
grant select (ledger_id) on ledger_identity to careforall_projector, careforall_reader, careforall_auditor;

grant select, insert, update on webhook_inbox to careforall_writer;
grant select on webhook_inbox to careforall_auditor;

grant select, insert, update, delete
    on projector_checkpoints, campaigns, campaign_totals, campaign_donors, pledges, pledge_history, donations
    to careforall_projector;
grant select
    on projector_checkpoints, campaigns, campaign_totals, campaign_donors, pledges, pledge_history, donations
    to careforall_reader, careforall_auditor;

-- The donation wall shows names and messages, and never an address.
grant select (pledge_id, donor_id, name, message) on pledge_donors to careforall_reader;

grant usage on schema sandbox to careforall_sandbox;
grant select, insert, update, delete on all tables in schema sandbox to careforall_sandbox;
