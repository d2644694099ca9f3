-- A ledger that has been in use for long, made in a minute: 100 campaigns, and lives of four events
-- each (created, authorised, captured, completed), a thousand of them interleaved at a time, one event
-- per second. Written in the shape that the program writes, into an empty ledger.
-- The setting lives.events says how many events of pledges there are: a multiple of 4000.

insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
    metadata, recorded_at)
select 1 + 2 * n + k, 'campaign', md5('campaign' || n)::uuid::text, 1 + k,
    (array['CampaignCreated', 'CampaignPublished'])[1 + k], '1',
    (case k
        when 0 then format('{"CampaignCreated":{"title":"Campaign %s","description":null,"goal":{"amount_minor":100000000,"currency":"EUR"},"ends_at":null}}', n)
        else '{"CampaignPublished":{}}'
    end)::json,
    format('{"command_id":"%s"}', md5('campaign command' || n || k)::uuid)::json, '2026-01-01 00:00:00Z'
from generate_series(0, 99) n, generate_series(0, 1) k;

-- The index that would be filled in random order is made again afterwards, which is many times faster
-- and ends in the same table.
alter table events drop constraint events_stream_is_ordered;
insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
    metadata, recorded_at)
select 201 + n, 'pledge', pledge_id, 1 + stage,
    (array['PledgeCreated', 'PledgeAuthorized', 'PledgeCaptured', 'PledgeCompleted'])[1 + stage], '1',
    (case stage
        when 0 then format('{"PledgeCreated":{"campaign_id":"%s","donor_id":"%s","amount":%s,"anonymous":false,"made_at":"%s"}}', campaign_id, donor_id, amount, at)
        when 1 then format('{"PledgeAuthorized":{"campaign_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"heard":[{"object":"payment","state":"open","authorized":%s,"stood_at":"%s"}]}}}',
            campaign_id, pledge_id, amount, amount, at)
        when 2 then format('{"PledgeCaptured":{"campaign_id":"%s","donor_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"heard":[{"object":"payment","state":"open","amount":%s,"stood_at":"%s","happened_at":"%s"}],"moves":[{"at":"%s","currency":"EUR","gifts":1,"captured_minor":2500}]}}}',
            campaign_id, donor_id, pledge_id, amount, amount, at, at, at)
        else format('{"PledgeCompleted":{"campaign_id":"%s","donor_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"settled":{"amount":%s,"at":"%s"},"moves":[{"at":"%s","currency":"EUR","settled_minor":2500}]}}}',
            campaign_id, donor_id, pledge_id, amount, amount, at, at)
    end)::json,
    format('{"command_id":"%s","request_id":"%s"}', md5('command' || n)::uuid,
        md5('request' || n)::uuid)::json,
    timestamptz '2026-01-01 00:00:01Z' + n * interval '1 second'
from (
    select n, stage, md5('pledge' || pledge)::uuid::text as pledge_id,
        md5('donor' || pledge / 4)::uuid as donor_id, md5('campaign' || pledge % 100)::uuid as campaign_id,
        '{"amount_minor":2500,"currency":"EUR"}' as amount,
        to_char(timestamp '2026-01-01 00:00:01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at
    from (
        select n, n / 4000 * 1000 + n % 1000 as pledge, n % 4000 / 1000 as stage
        from generate_series(0, current_setting('lives.events')::bigint - 1) as n
    ) numbered
) lives
order by n;
set maintenance_work_mem = '512MB';
alter table events add constraint events_stream_is_ordered unique (aggregate_id, sequence, aggregate_type);
update ledger_head set position = 200 + current_setting('lives.events')::bigint,
    recorded_at = (select max(recorded_at) from events);
