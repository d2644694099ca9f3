-- The index of streams begins with what tells them apart. Nearly all aggregates are pledges: with the
-- type in front, every step down the index compared a column that was the same everywhere.
alter table events drop constraint events_stream_is_ordered;
alter table events add constraint events_stream_is_ordered unique (aggregate_id, sequence, aggregate_type);
