/** What a position of another life left over: the events and commands that it had not dispatched, read by its own snapshot. */
export function leftOverOfLifeBefore(s: string): string {
  return /* sql */ `
-- What a position of another life says of events and commands: snap, win, key and aside (0008) tell by their transaction ids, which
-- are of that life too, what it had dispatched. Whatever has an id after its moment is younger. Nothing left over has an id before 'from'.
create function ${s}.life_before(p_snap pg_snapshot, p_win pg_snapshot, p_key_xid xid8, p_key_id uuid, p_aside_xids xid8[],
  p_aside_ids uuid[], p_at timestamptz)
returns json language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  first uuid;
begin
  -- Materialized: else the planner may go through all events by id, looking for one of these.
  with unknown as materialized (
    select e.id from ${s}.events e where e.xid >= pg_snapshot_xmax(p_snap)
    union all select e.id from pg_snapshot_xip(p_snap) y join ${s}.events e on e.xid = y)
  select u.id into first from unknown u order by u.id limit 1;
  first := least(first, (select id from unnest(p_aside_ids) id order by id limit 1), ${s}.id_floor(p_at - interval '10 minutes'));
  return json_build_object('snap', p_snap, 'win', p_win, 'key_xid', p_key_xid, 'key_id', p_key_id,
    'aside_xids', p_aside_xids, 'aside_ids', p_aside_ids, 'since', ${s}.id_floor(p_at), 'from', first, 'after', null);
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

-- The events of that time, and what was emitted since, before anybody dispatched here: in the order of ids, and by whether the
-- position of the life before knows it. Of ten minutes before that, for a clock that is behind the one before: what was inserted
-- by the transaction that it names, or in a savepoint of it, and has no delivery. What waits for its turn then may come twice,
-- which changes nothing. n: how many were looked at, of p_limit, up to p_until if given; last: through which one.
create function ${s}.events_left_over(p_rest json, p_limit int, p_until uuid, out n int, out last uuid, out ids uuid[], out accounts text[],
  out types text[], out keys text[])
language sql stable set search_path = pg_catalog, pg_temp as $$
  select count(*)::int, (array_agg(l.id order by l.id desc))[1], array_agg(l.id order by l.id) filter (where l.left_over),
    array_agg(l.account order by l.id) filter (where l.left_over), array_agg(l.type order by l.id) filter (where l.left_over),
    array_agg(l.idempotency_key order by l.id) filter (where l.left_over)
  from (
    select e.id, e.account, e.type, e.idempotency_key,
      not (pg_visible_in_snapshot(e.xid, old.snap)
        or coalesce(pg_visible_in_snapshot(e.xid, old.win) and (e.xid, e.id) <= (old.key_xid, old.key_id), false))
      or e.id >= old.since
      or exists (select from unnest(old.aside_xids, old.aside_ids) a(xid, id) where e.xid = a.xid and e.id > a.id)
      or age(e.xid::xid) - age(e.xmin) between 0 and 1000 and not exists (select from ${s}.deliveries x
        where x.id >= ${s}.first_delivery_id(e.id) and x.id <= ${s}.last_delivery_id(e.id)) left_over
    from json_to_record(p_rest) old(snap pg_snapshot, win pg_snapshot, key_xid xid8, key_id uuid, aside_xids xid8[],
      aside_ids uuid[], since uuid, "from" uuid, after uuid)
    cross join lateral (select x.*, x.xmin from ${s}.events x
      where x.id >= old."from" and x.id > coalesce(old.after, '00000000-0000-0000-0000-000000000000')
        and x.id <= coalesce(p_until, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      order by x.id limit p_limit) e
  ) l
$$;
`
}
