/**
 * The dispatcher's step of 0002 again, now for a database that may have moved. Compared with that one: it knows the name of the
 * installation that asks; it looks whether its position is of this life, and begins anew where it is not; and it passes over events
 * that were erased meanwhile.
 */
export function dispatchInAnyLife(s: string, lockKey: string): string {
  return `${leftOver(s)}${fromNow(s)}${step(s, lockKey)}`
}

function leftOver(s: string): string {
  return /* sql */ `
-- What a position of another life says of events and commands: snap, win and key tell by their transaction ids, which are of that
-- life too, what it had dispatched. Whatever has an id after its moment is younger. Nothing left over has an id before 'from'.
create function ${s}.life_before(p_snap pg_snapshot, p_win pg_snapshot, p_key_xid xid8, p_key_id uuid, p_at timestamptz)
returns json language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  first uuid;
begin
  -- Materialized: else the planner may go through all events by id, looking for one of these.
  with unknown as materialized (
    select e.id from ${s}.events e where e.xid >= pg_snapshot_xmax(p_snap)
    union all select e.id from pg_snapshot_xip(p_snap) y join ${s}.events e on e.xid = y)
  select u.id into first from unknown u order by u.id limit 1;
  first := least(first, ${s}.id_floor(p_at - interval '10 minutes'));
  return json_build_object('snap', p_snap, 'win', p_win, 'key_xid', p_key_xid, 'key_id', p_key_id,
    'since', ${s}.id_floor(p_at), 'from', first, 'after', first);
end $$;

-- The commands of that time. Each of them may be repeated: it says how many attempts there were, or which generation.
create function ${s}.commands_left_over(p_rest json, out told text, out replays json, out n int)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select (json_agg(json_build_object('id', c.id, 'kind', c.kind, 'endpoint', c.endpoint, 'payload', c.payload)
        order by c.id) filter (where c.kind <> 'replay'))::text,
      json_agg(json_build_object('endpoint', c.endpoint, 'chunk', c.payload::json) order by c.id) filter (where c.kind = 'replay'),
      count(*)::int
  from json_to_record(p_rest) old(snap pg_snapshot, since uuid)
  join ${s}.commands c on not pg_visible_in_snapshot(c.xid, old.snap) or c.id >= old.since
$$;
`
}

function fromNow(s: string): string {
  return /* sql */ `
-- A position from which nothing that was committed so far is dispatched, nor any command carried out. Under the dispatcher's lock.
create function ${s}.dispatch_from_now() returns void language sql set search_path = pg_catalog, pg_temp as $$
  insert into ${s}.dispatches (n, life, snap, last_seq, events, deliveries, foreign_xid, floor)
  select d.n + 1, ${s}.life(), pg_current_snapshot(), d.last_seq, 0, 0,
    greatest(d.foreign_xid, (select e.xid from ${s}.events e order by e.xid desc limit 1),
      (select c.xid from ${s}.commands c order by c.xid desc limit 1)), ${s}.id_floor(clock_timestamp() - interval '7 days')
  from ${s}.dispatches d order by d.n desc limit 1
$$;
`
}

function step(s: string, lockKey: string): string {
  return /* sql */ `
drop function ${s}.dispatch(int, int);
create function ${s}.dispatch(p_max_events int, p_max_matches int, p_installation text default null)
returns table (n bigint, events int, deliveries int, commands int, more boolean) language plpgsql
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  pos record;
  here constant text := ${s}.life();
  before json;
  moved boolean := false;
  left_over boolean;
  windowed boolean;
  looked_through uuid;
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
  -- After the lock, in a statement of its own: whoever adopts this database holds it.
  if p_installation is not null
    and not exists (select from ${s}.installation i where i.name = p_installation and i.adopting is null) then
    return;
  end if;
  select d.*, d.xmin = d.xid::xid native into pos from ${s}.dispatches d order by d.n desc limit 1;
  cur := coalesce(pos.win, pg_current_snapshot());

  -- Another life: the position was copied, or this cluster is younger than it. Where it was written here, so was all that it speaks
  -- of, whatever the cluster is called now (pg_upgrade). Of rows that do not say who wrote them, only the cluster's name tells.
  if pos.native is false or pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(pos.snap)
    or (pos.native is null and split_part(pos.life, '/', 1) <> split_part(here, '/', 1) and pos.life not like '?%' and here not like '?%') then
    if ${s}.is_replica() then
      raise exception 'logical replication still writes into the schema ${s}: nothing is dispatched here before it is ended';
    end if;
    moved := true;
    cur := pg_current_snapshot();
    before := ${s}.life_before(pos.snap, pos.win, pos.key_xid, pos.key_id, pos.at);
    -- Moved again before all of that was dispatched: it begins anew. What is repeated changes nothing.
    pos.rest := coalesce((pos.rest::jsonb || jsonb_build_object('after', pos.rest ->> 'from'))::json, before);
    pos.snap := cur;
    pos.win := null; pos.key_xid := null; pos.key_id := null; pos.key_endpoint := null;
    pos.foreign_xid := greatest(pos.foreign_xid, (select e.xid from ${s}.events e order by e.xid desc limit 1),
      (select c.xid from ${s}.commands c order by c.xid desc limit 1));
    pos.floor := ${s}.id_floor(clock_timestamp() - interval '7 days');
    perform ${s}.raise_sequences();
    -- What it handed on is dispatched by this very statement.
    update ${s}.replays r set handed_xid = '0' where r.status = 'running';
  elsif pos.foreign_xid < pg_snapshot_xmin(pos.snap) then
    -- The counter has passed whatever was copied: from here on no transaction id is of another life.
    pos.foreign_xid := null; pos.floor := null;
  end if;

  left_over := pos.rest is not null;
  if left_over then
    -- What the life before left over, and what was emitted since, before anybody dispatched here: in the order of ids, and by
    -- whether the position of the life before knows it. Of ten minutes before that, for a clock that is behind the one before: what
    -- was inserted by the transaction that it names, or in a savepoint of it, and has no delivery.
    select count(*)::int n, (array_agg(l.id order by l.id desc))[1] last, array_agg(l.xid order by l.id) filter (where l.left_over) xids,
        array_agg(l.id order by l.id) filter (where l.left_over) ids, array_agg(l.account order by l.id) filter (where l.left_over) accounts,
        array_agg(l.type order by l.id) filter (where l.left_over) types,
        array_agg(l.idempotency_key order by l.id) filter (where l.left_over) keys into found from (
      select e.xid, e.id, e.account, e.type, e.idempotency_key,
        not (pg_visible_in_snapshot(e.xid, old.snap)
          or coalesce(pg_visible_in_snapshot(e.xid, old.win) and (e.xid, e.id) <= (old.key_xid, old.key_id), false))
        or e.id >= old.since or e.id = pos.open_event
        or age(e.xid::xid) - age(e.xmin) between 0 and 1000 and not exists (select from ${s}.deliveries x
          where x.id >= ${s}.first_delivery_id(e.id) and x.id <= ${s}.last_delivery_id(e.id)) left_over
      from json_to_record(pos.rest) old(snap pg_snapshot, win pg_snapshot, key_xid xid8, key_id uuid, since uuid, after uuid)
      cross join lateral (select x.*, x.xmin from ${s}.events x where x.id > old.after order by x.id limit p_max_events) e
    ) l;
    looked_through := coalesce(found.last, (pos.rest ->> 'after')::uuid);
    if found.ids is not null then
      xids := found.xids; ids := found.ids; accounts := found.accounts; types := found.types; keys := found.keys;
    end if;
    full_page := found.n >= p_max_events;
  else
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
          -- Natively no row is inserted by an older transaction than the one that it names (in a savepoint: by a younger one).
          and (pos.foreign_xid is null or e.xid > pos.foreign_xid or (e.id >= pos.floor and age(e.xmin) <= age(e.xid::xid)))
        order by e.xid, e.id limit p_max_events - cardinality(ids)) e;
      if found.ids is not null then
        xids := xids || found.xids; ids := ids || found.ids; accounts := accounts || found.accounts;
        types := types || found.types; keys := keys || found.keys;
      end if;
      exit when cardinality(ids) >= p_max_events;
    end loop;
  end if;
  n_events := cardinality(ids);
  full_page := coalesce(full_page, n_events >= p_max_events);
  if pos.key_endpoint is not null and pos.open_event <> coalesce(ids[1], zero) then
    -- The event that was being worked off endpoint by endpoint is gone.
    pos.key_endpoint := null;
  end if;

  -- Commands are few: all of a window's go into its first page. Those of replays are worked off here, the others are for the
  -- owners of lanes.
  if pos.key_xid is null and (pos.rest is null or moved) then
    select (json_agg(json_build_object('id', c.id, 'kind', c.kind, 'endpoint', c.endpoint, 'payload', c.payload)
          order by c.xid, c.id) filter (where c.kind <> 'replay'))::text,
        json_agg(json_build_object('endpoint', c.endpoint, 'chunk', c.payload::json) order by c.xid, c.id)
          filter (where c.kind = 'replay'),
        count(*)::int into cmds, replays, n_commands
    from (
      select c.*, c.xmin inserted from ${s}.commands c
      where c.xid >= pg_snapshot_xmax(pos.snap) and c.xid < pg_snapshot_xmax(cur) and pg_visible_in_snapshot(c.xid, cur)
      union all
      select c.* from pg_snapshot_xip(pos.snap) y cross join lateral (
        select x.*, x.xmin inserted from ${s}.commands x where x.xid = y offset 0) c
      where pg_visible_in_snapshot(y, cur)
    ) c
    where not moved and (pos.foreign_xid is null or c.xid > pos.foreign_xid
      or (c.id >= pos.floor and age(c.inserted) <= age(c.xid::xid)));
    if moved then
      select x.told, x.replays, x.n into cmds, replays, n_commands from ${s}.commands_left_over(before) x;
    end if;
  end if;

  if n_events = 0 and n_commands = 0 and pos.win is null and pos.rest is null
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
      -- Events that were erased in between would leave deliveries that nobody can send, and that the replay waits for.
      select c.endpoint, c.generation, e.event, row_number() over (order by c.ord, e.ord) ord
      from chunks c cross join unnest(c.events) with ordinality e(event, ord)
      where (select true from ${s}.events x where x.id = e.event limit 1)
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
  windowed := full_page and not left_over;
  if left_over then
    if full_page then
      pos.rest := (pos.rest::jsonb || jsonb_build_object('after',
        case when done = n_events then looked_through when done > 0 then ids[done] else (pos.rest ->> 'after')::uuid end))::json;
    else
      pos.rest := null;
    end if;
  end if;
  -- The primary key is the fence: a second dispatcher that read the same position fails here, and with it all of the above.
  insert into ${s}.dispatches (n, life, snap, win, key_xid, key_id, key_endpoint, open_event, last_seq, events, deliveries,
      oldest, endpoints, firsts, lasts, commands, foreign_xid, floor, rest)
  values (pos.n + 1, here, case when full_page or left_over then pos.snap else cur end, case when windowed then cur end,
    case when windowed then coalesce(xids[done], pos.key_xid, '0'::xid8) end,
    case when windowed then coalesce(ids[done], pos.key_id, zero) end,
    open_endpoint, case when open_endpoint is not null then ids[1] end, coalesce(new_last_seq, first_seq), done, n_deliveries,
    oldest, wake_endpoints, wake_firsts, wake_lasts, cmds, pos.foreign_xid, pos.floor, pos.rest);
  return query select pos.n + 1, done, n_deliveries, n_commands, full_page or left_over;
end $$;
`
}
