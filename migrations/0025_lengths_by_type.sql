-- Lengths are checked where rows come in, by the types of their columns. A check constraint costs more than it
-- seems to: its text is parsed anew for each statement, it counts the characters even of what is short, and
-- payload::text writes the JSON out for each row. Together they were a quarter of what a call of
-- ledger_append took.

-- A row of these types with a text that is too long is refused as it is received, and nothing
-- comes in another way: the writer's role may only call ledger_append.
alter type ledger_event
    alter attribute aggregate_type type varchar(50),
    alter attribute aggregate_id type varchar(100),
    alter attribute event_type type varchar(100),
    alter attribute event_version type varchar(20);
alter table events
    drop constraint events_texts_are_short,
    drop constraint events_sequence_is_positive,
    drop constraint events_payload_is_small,
    drop constraint events_metadata_is_small,
    -- The length of the JSON and of its header, 4 bytes.
    add constraint events_are_small check (
        sequence > 0 and pg_column_size(payload) <= 4 + 65536 and pg_column_size(metadata) <= 4 + 8192
    ) not valid; -- the rows that are there were checked before; to read a whole ledger again takes long

alter type ledger_donor
    alter attribute name type varchar(200),
    alter attribute email type varchar(320),
    alter attribute message type varchar(2000);
alter table pledge_donors drop constraint pledge_donors_texts_are_short;

-- Every message comes into the inbox as such a row.
alter type webhook_delivery
    alter attribute provider type varchar(50),
    alter attribute webhook_id type varchar(200),
    alter attribute event_type type varchar(200);
alter table webhook_inbox drop constraint webhook_inbox_texts_are_short;
