/** The parts of the dispatcher's step that make deliveries: of whole events, of one event with many matches, of what replays ask for. */
export function dispatchEvents(s: string): string {
  return /* sql */ `
-- Makes the deliveries of events, in their order: whole events while they fit into p_max_matches. p_erased: some of them may have
-- been erased since they were read; there is nothing to do for those, and their keys are free.
create function ${s}.dispatch_events(p_ids uuid[], p_accounts text[], p_types text[], p_keys text[], p_after_seq bigint,
  p_max_matches bigint, p_erased boolean, out done int, out made int, out last_seq bigint, out endpoints int[], out firsts bigint[],
  out lasts bigint[], out oldest uuid)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  dups boolean[] := array_fill(false, array[cardinality(p_ids)]);
  gone boolean[];
begin
  if p_erased then
    select array_agg(x.gone order by x.ord), array_agg(case when not x.gone then x.key end order by x.ord) into gone, p_keys
      from (select u.key, u.ord, (select true from ${s}.events e where e.id = u.id limit 1) is null gone
        from unnest(p_ids, p_keys) with ordinality u(id, key, ord)) x;
  end if;

  -- The first event with an idempotency key wins for seven days; a later one stays in the log as a duplicate.
  if array_remove(p_keys, null) <> '{}' then
    insert into ${s}.idempotency_keys as k (account, key, event_id, at)
      select distinct on (w.account, w.key) w.account, w.key, w.id, ${s}.clock()
      from unnest(p_accounts, p_keys, p_ids) with ordinality w(account, key, id, ord) where w.key is not null
      order by w.account, w.key, w.ord
      on conflict (account, key) do update set event_id = excluded.event_id, at = excluded.at
        where k.at < ${s}.clock() - interval '7 days';
    select array_agg(coalesce(k.event_id <> w.id, false) order by w.ord) into dups
      from unnest(p_accounts, p_keys, p_ids) with ordinality w(account, key, id, ord)
      left join ${s}.idempotency_keys k on k.account = w.account and k.key = w.key;
    if true = any (dups) then
      insert into ${s}.duplicates (event_id, first_id)
        select w.id, k.event_id from unnest(p_accounts, p_keys, p_ids, dups) w(account, key, id, dup)
        join ${s}.idempotency_keys k on k.account = w.account and k.key = w.key where w.dup
        on conflict do nothing;
    end if;
  end if;
  if true = any (gone) then
    dups := array(select u.dup or u.gone from unnest(dups, gone) with ordinality u(dup, gone, ord) order by u.ord);
  end if;

  with kinds as materialized (select k.type, ${s}.patterns(k.type) patterns from (select distinct unnest(p_types) type) k),
  pairs as materialized (
    -- Who subscribes by two patterns is there twice, and given a delivery once, by the conflict below: sorting costs more.
    select p.account, p.type, (select array_agg(m.endpoint) from (
        select sub.endpoint from ${s}.subscriptions sub
        where sub.account = p.account and sub.pattern = any (kinds.patterns) limit p_max_matches + 1) m) endpoints
    from (select distinct a account, t type from unnest(p_accounts, p_types) u(a, t)) p
    join kinds on kinds.type = p.type
  ),
  w as (
    select u.id, u.ord, case when u.dup then null else pairs.endpoints end endpoints,
      sum(case when u.dup then 0 else coalesce(cardinality(pairs.endpoints), 0) end) over (order by u.ord) upto
    from unnest(p_ids, p_accounts, p_types, dups) with ordinality u(id, account, type, dup, ord)
    join pairs on pairs.account = u.account and pairs.type = u.type
  ),
  taken as (select * from w where upto <= p_max_matches),
  new as (
    insert into ${s}.deliveries (id, seq, event_id, endpoint)
    select ${s}.delivery_id(t.id, t.endpoint, 0), p_after_seq + row_number() over (order by t.ord, t.endpoint), t.id, t.endpoint
    from (select taken.id, taken.ord, unnest(taken.endpoints) endpoint from taken) t
    order by t.ord, t.endpoint
    on conflict do nothing
    returning endpoint, seq, event_id
  ),
  woken as (select endpoint, min(seq) first, max(seq) last from new group by endpoint)
  select (select count(*)::int from taken), (select count(*)::int from new),
      p_after_seq + (select coalesce(max(upto), 0) from taken), array_agg(endpoint), array_agg(first), array_agg(last),
      (select event_id from new order by event_id limit 1)
    into done, made, last_seq, endpoints, firsts, lasts, oldest from woken;
end $$;

-- Makes deliveries of one event that matches more than a page holds, for the endpoints after p_after. open_endpoint: the last
-- one, where there may be more.
create function ${s}.dispatch_event(p_id uuid, p_account text, p_type text, p_after int, p_after_seq bigint, p_max_matches bigint,
  out open_endpoint int, out made int, out last_seq bigint, out endpoints int[], out firsts bigint[], out lasts bigint[])
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  with m as materialized (
    select distinct sub.endpoint from ${s}.subscriptions sub
    where sub.account = p_account and sub.pattern = any (${s}.patterns(p_type)) and sub.endpoint > p_after
    order by sub.endpoint limit p_max_matches
  ),
  new as (
    insert into ${s}.deliveries (id, seq, event_id, endpoint)
    select ${s}.delivery_id(p_id, endpoint, 0), p_after_seq + row_number() over (order by endpoint), p_id, endpoint
    from m order by endpoint
    on conflict do nothing
    returning endpoint, seq
  )
  select case when (select count(*) from m) = p_max_matches then (select max(endpoint) from m) end,
      p_after_seq + (select count(*) from m), count(*)::int, array_agg(endpoint), array_agg(seq), array_agg(seq)
    into open_endpoint, last_seq, made, endpoints, firsts, lasts from new;
end $$;

-- Makes the deliveries that the commands of replays ask for. A repeated chunk finds its deliveries made.
create function ${s}.dispatch_replays(p_replays json, p_after_seq bigint, out made int, out last_seq bigint, out endpoints int[],
  out firsts bigint[], out lasts bigint[], out oldest uuid)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  -- Each command is parsed once: a chunk is 40 kB, and parsing it for each of its events took half a second.
  with chunks as materialized (
    select c.ord, x.endpoint, y.generation, y.events from json_array_elements(p_replays) with ordinality c(command, ord)
    cross join json_to_record(c.command) x(endpoint int, chunk json)
    cross join json_to_record(x.chunk) y(generation int, events uuid[])
  ),
  given as materialized (
    -- Events that were erased in between would leave deliveries that nobody can send, and that the replay waits for.
    select c.endpoint, c.generation, e.event, row_number() over (order by c.ord, e.ord) ord
    from chunks c cross join unnest(c.events) with ordinality e(event, ord)
    where (select true from ${s}.events x where x.id = e.event limit 1)
  ),
  new as (
    insert into ${s}.deliveries (id, seq, event_id, endpoint, generation)
    select ${s}.delivery_id(event, endpoint, generation), p_after_seq + ord, event, endpoint, generation from given order by ord
    on conflict do nothing
    returning endpoint, seq, event_id
  ),
  woken as (select endpoint, min(seq) first, max(seq) last from new group by endpoint)
  select (select count(*)::int from new), p_after_seq + (select count(*) from given), array_agg(endpoint), array_agg(first),
      array_agg(last), (select event_id from new order by event_id limit 1)
    into made, last_seq, endpoints, firsts, lasts, oldest from woken;
end $$;
`
}
