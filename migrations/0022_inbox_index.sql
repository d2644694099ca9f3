-- Whether a message was seen before is asked for every delivery: its key is compared byte by byte, and
-- begins with what tells messages apart.
create unique index webhook_inbox_message on webhook_inbox (webhook_id collate "C", provider collate "C");
alter table webhook_inbox drop constraint webhook_inbox_is_idempotent;
alter index webhook_inbox_message rename to webhook_inbox_is_idempotent;
