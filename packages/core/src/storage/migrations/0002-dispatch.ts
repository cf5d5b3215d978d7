/**
 * The dispatcher's step: finds what was committed since the last look, matches subscriptions, and appends deliveries and
 * one row of `dispatches`. One statement for the caller, so nothing of it is left half done when a process freezes.
 */
export function dispatchFunction(s: string, lockKey: string): string {
  return /* sql */ `
-- Which cluster this is: transaction ids mean nothing outside of it.
create function ${s}.life() returns text language sql stable as
$$ select system_identifier::text from pg_control_system() $$;

insert into ${s}.dispatches (n, life, snap, last_seq, events, deliveries)
values (0, ${s}.life(), pg_current_snapshot(), 0, 0, 0);

create function ${s}.dispatch(p_max_events int, p_max_matches int)
returns table (n bigint, events int, deliveries int, commands int, more boolean) language plpgsql as $$
#variable_conflict use_column
declare
  pos ${s}.dispatches;
  cur pg_snapshot;
  zero constant uuid := '00000000-0000-0000-0000-000000000000';
  top constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  seg record;
  found record;
  xids xid8[] := '{}';
  ids uuid[] := '{}';
  accounts text[] := '{}';
  types text[] := '{}';
  keys text[] := '{}';
  dups boolean[];
  cmds text;
  n_commands int := 0;
  replays json;
  first_seq bigint;
  replayed record;
  n_events int;
  done int := 0;
  n_deliveries int := 0;
  new_last_seq bigint;
  open_endpoint int;
  full_page boolean;
  wake_endpoints int[];
  wake_firsts bigint[];
  wake_lasts bigint[];
  oldest uuid;
begin
  if not pg_try_advisory_xact_lock(${lockKey}) then
    return; -- another dispatcher is at it
  end if;
  select * into pos from ${s}.dispatches d order by d.n desc limit 1;
  cur := coalesce(pos.win, pg_current_snapshot());

  -- The window: visible in cur, not in pos.snap. Transactions that were open at the last look and are finished now, each
  -- on its own; then everything newer, cut at the transactions that are open now, so that a look never reads through the
  -- uncommitted rows of a large transaction.
  for seg in
    select lo, lo_id, hi, hi_id from (
      select y lo, zero lo_id, y hi, top hi_id from pg_snapshot_xip(pos.snap) y where pg_visible_in_snapshot(y, cur)
      union all
      select coalesce(lag(v) over (order by v), pg_snapshot_xmax(pos.snap)),
        case when lag(v) over (order by v) is null then zero else top end, v, zero
      from (select y v from pg_snapshot_xip(cur) y where y >= pg_snapshot_xmax(pos.snap)
            union all select pg_snapshot_xmax(cur)) b
    ) segs order by lo, lo_id
  loop
    if pos.key_xid is not null and seg.hi < pos.key_xid then continue; end if;
    select array_agg(e.xid order by e.xid, e.id) xids, array_agg(e.id order by e.xid, e.id) ids,
        array_agg(e.account order by e.xid, e.id) accounts, array_agg(e.type order by e.xid, e.id) types,
        array_agg(e.idempotency_key order by e.xid, e.id) keys into found from (
      select e.xid, e.id, e.account, e.type, e.idempotency_key from ${s}.events e
      where (e.xid, e.id) > (
          case when (seg.lo, seg.lo_id) < (pos.key_xid, pos.key_id) then pos.key_xid else seg.lo end,
          case when (seg.lo, seg.lo_id) < (pos.key_xid, pos.key_id) then pos.key_id else seg.lo_id end)
        and (e.xid, e.id) < (seg.hi, seg.hi_id)
      order by e.xid, e.id limit p_max_events - cardinality(ids)) e;
    if found.ids is not null then
      xids := xids || found.xids; ids := ids || found.ids; accounts := accounts || found.accounts;
      types := types || found.types; keys := keys || found.keys;
    end if;
    exit when cardinality(ids) >= p_max_events;
  end loop;
  n_events := cardinality(ids);
  full_page := n_events >= p_max_events;

  -- Commands are few: all of a window's go into its first page. Those of replays are worked off here, the others are for the
  -- owners of lanes.
  if pos.key_xid is null then
    select (json_agg(json_build_object('id', c.id, 'kind', c.kind, 'endpoint', c.endpoint, 'payload', c.payload)
          order by c.xid, c.id) filter (where c.kind <> 'replay'))::text,
        json_agg(json_build_object('endpoint', c.endpoint, 'chunk', c.payload::json) order by c.xid, c.id)
          filter (where c.kind = 'replay'),
        count(*)::int into cmds, replays, n_commands
    from (
      select c.* from ${s}.commands c
      where c.xid >= pg_snapshot_xmax(pos.snap) and c.xid < pg_snapshot_xmax(cur) and pg_visible_in_snapshot(c.xid, cur)
      union all
      select c.* from pg_snapshot_xip(pos.snap) y join ${s}.commands c on c.xid = y
      where pg_visible_in_snapshot(y, cur)
    ) c;
  end if;

  if n_events = 0 and n_commands = 0 and pos.win is null
    and pg_snapshot_xmax(cur)::text::numeric - pg_snapshot_xmax(pos.snap)::text::numeric < 500 then
    return query select pos.n, 0, 0, 0, false;
    return;
  end if;

  -- What replays ask for comes before the page's own events: an endpoint may be named twice, the second time with higher
  -- sequence numbers. A repeated chunk finds its deliveries made.
  first_seq := pos.last_seq;
  if replays is not null then
    -- Each command is parsed once: a chunk is 40 kB, and parsing it for each of its events took half a second.
    with chunks as materialized (
      select c.ord, x.endpoint, y.generation, y.events from json_array_elements(replays) with ordinality c(command, ord)
      cross join json_to_record(c.command) x(endpoint int, chunk json)
      cross join json_to_record(x.chunk) y(generation int, events uuid[])
    ),
    given as materialized (
      select c.endpoint, c.generation, e.event, row_number() over (order by c.ord, e.ord) ord
      from chunks c cross join unnest(c.events) with ordinality e(event, ord)
    ),
    made as (
      insert into ${s}.deliveries (id, seq, event_id, endpoint, generation)
      select ${s}.delivery_id(event, endpoint, generation), pos.last_seq + ord, event, endpoint, generation from given order by ord
      on conflict do nothing
      returning endpoint, seq, event_id
    ),
    woken as (select endpoint, min(seq) first, max(seq) last from made group by endpoint)
    select (select count(*) from given) given, (select count(*)::int from made) made, array_agg(endpoint) endpoints,
        array_agg(first) firsts, array_agg(last) lasts, (select event_id from made order by event_id limit 1) oldest
      into replayed from woken;
    first_seq := pos.last_seq + replayed.given;
  end if;

  -- The first event with an idempotency key wins for seven days; a later one stays in the log as a duplicate.
  dups := array_fill(false, array[n_events]);
  if array_remove(keys, null) <> '{}' then
    insert into ${s}.idempotency_keys as k (account, key, event_id, at)
      select distinct on (w.account, w.key) w.account, w.key, w.id, ${s}.clock()
      from unnest(accounts, keys, ids) with ordinality w(account, key, id, ord) where w.key is not null
      order by w.account, w.key, w.ord
      on conflict (account, key) do update set event_id = excluded.event_id, at = excluded.at
        where k.at < ${s}.clock() - interval '7 days';
    select array_agg(coalesce(k.event_id <> w.id, false) order by w.ord) into dups
      from unnest(accounts, keys, ids) with ordinality w(account, key, id, ord)
      left join ${s}.idempotency_keys k on k.account = w.account and k.key = w.key;
    if true = any (dups) then
      insert into ${s}.duplicates (event_id, first_id)
        select w.id, k.event_id from unnest(accounts, keys, ids, dups) w(account, key, id, dup)
        join ${s}.idempotency_keys k on k.account = w.account and k.key = w.key where w.dup
        on conflict do nothing;
    end if;
  end if;

  -- A page is cut by matches, not by events: whole events while they fit. done = how many events.
  if n_events > 0 and pos.key_endpoint is null then
    with kinds as materialized (select k.type, ${s}.patterns(k.type) patterns from (select distinct unnest(types) type) k),
    pairs as materialized (
      select p.account, p.type, (select array_agg(m.endpoint) from (
          select distinct sub.endpoint from ${s}.subscriptions sub
          where sub.account = p.account and sub.pattern = any (kinds.patterns)
          order by sub.endpoint limit p_max_matches + 1) m) endpoints
      from (select distinct a account, t type from unnest(accounts, types) u(a, t)) p
      join kinds on kinds.type = p.type
    ),
    w as (
      select u.id, u.ord, case when u.dup then null else pairs.endpoints end endpoints,
        sum(case when u.dup then 0 else coalesce(cardinality(pairs.endpoints), 0) end) over (order by u.ord) upto
      from unnest(ids, accounts, types, dups) with ordinality u(id, account, type, dup, ord)
      join pairs on pairs.account = u.account and pairs.type = u.type
    ),
    taken as (select * from w where upto <= p_max_matches),
    made as (
      insert into ${s}.deliveries (id, seq, event_id, endpoint)
      select ${s}.delivery_id(t.id, t.endpoint, 0), first_seq + row_number() over (order by t.ord, t.endpoint), t.id, t.endpoint
      from (select taken.id, taken.ord, unnest(taken.endpoints) endpoint from taken) t
      order by t.ord, t.endpoint
      on conflict do nothing
      returning endpoint, seq, event_id
    ),
    woken as (select endpoint, min(seq) first, max(seq) last from made group by endpoint)
    select (select count(*)::int from taken), (select count(*)::int from made),
        (select coalesce(max(upto), 0) from taken), array_agg(endpoint), array_agg(first), array_agg(last),
        (select event_id from made order by event_id limit 1)
      into done, n_deliveries, new_last_seq, wake_endpoints, wake_firsts, wake_lasts, oldest from woken;
    new_last_seq := first_seq + new_last_seq;
  end if;

  -- One event with more matches than a page holds is worked off by itself, endpoint by endpoint.
  if n_events > 0 and done = 0 then
    with m as materialized (
      select distinct sub.endpoint from ${s}.subscriptions sub
      where sub.account = accounts[1] and sub.pattern = any (${s}.patterns(types[1]))
        and sub.endpoint > coalesce(pos.key_endpoint, 0)
      order by sub.endpoint limit p_max_matches
    ),
    made as (
      insert into ${s}.deliveries (id, seq, event_id, endpoint)
      select ${s}.delivery_id(ids[1], endpoint, 0), first_seq + row_number() over (order by endpoint), ids[1], endpoint
      from m order by endpoint
      on conflict do nothing
      returning endpoint, seq
    )
    select case when (select count(*) from m) = p_max_matches then (select max(endpoint) from m) end,
        (select count(*) from m) + first_seq, count(*)::int, array_agg(endpoint), array_agg(seq), array_agg(seq)
      into open_endpoint, new_last_seq, n_deliveries, wake_endpoints, wake_firsts, wake_lasts from made;
    oldest := ids[1];
    if open_endpoint is null then done := 1; end if;
  end if;

  if replays is not null then
    n_deliveries := n_deliveries + replayed.made;
    wake_endpoints := replayed.endpoints || wake_endpoints;
    wake_firsts := replayed.firsts || wake_firsts;
    wake_lasts := replayed.lasts || wake_lasts;
    oldest := least(replayed.oldest, oldest);
  end if;

  full_page := full_page or done < n_events or open_endpoint is not null;
  -- The primary key is the fence: a second dispatcher that read the same position fails here, and with it all of the above.
  insert into ${s}.dispatches (n, life, snap, win, key_xid, key_id, key_endpoint, last_seq, events, deliveries,
      oldest, endpoints, firsts, lasts, commands)
  values (pos.n + 1, pos.life, case when full_page then pos.snap else cur end, case when full_page then cur end,
    case when full_page then coalesce(xids[done], pos.key_xid, '0'::xid8) end,
    case when full_page then coalesce(ids[done], pos.key_id, zero) end,
    open_endpoint, coalesce(new_last_seq, first_seq), done, n_deliveries, oldest, wake_endpoints, wake_firsts,
    wake_lasts, cmds);
  return query select pos.n + 1, done, n_deliveries, n_commands, full_page;
end $$;
`
}
