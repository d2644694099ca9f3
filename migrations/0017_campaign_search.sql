-- Campaigns are found by words in any of their forms, and despite typing errors.

-- A trusted extension: whoever owns the database may make it, without being a superuser. Its files
-- come with Postgres's server package, or with one that is named contrib.
create extension if not exists pg_trgm;

alter table campaigns
    -- The words of title and description, reduced to their stems. English rules; words of other
    -- languages are found too, if not in all their forms.
    add column words tsvector generated always as (
        setweight(to_tsvector('english', title), 'A')
        || setweight(to_tsvector('english', coalesce(description, '')), 'B')
    ) stored;

-- The search by words.
create index campaigns_words on campaigns using gin (words);
-- The search for what looks like the title, or is a part of it.
create index campaigns_title_trigrams on campaigns using gin (title gin_trgm_ops);
-- The list by the end, soonest first, by keyset.
create index campaigns_ending on campaigns (ends_at, campaign_id) where ends_at is not null;
-- The list by what was raised, by keyset.
create index campaign_totals_most_raised on campaign_totals (raised_minor desc, campaign_id desc);
