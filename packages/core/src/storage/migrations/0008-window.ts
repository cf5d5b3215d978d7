/** Reading what the dispatcher's position has before it: the events and commands of a window, in the order of their commits. */
export function readWindow(s: string): string {
  return /* sql */ `
-- The window: visible in p_cur, not in p_snap, and after the key. Transactions that were open at the last look and are finished
-- now, each on its own; then everything newer, cut at the transactions that are open now, so that a look never reads through the
-- uncommitted rows of a large transaction.
create function ${s}.events_in_window(p_snap pg_snapshot, p_cur pg_snapshot, p_key_xid xid8, p_key_id uuid, p_foreign_xid xid8,
  p_floor uuid, p_limit int, out xids xid8[], out ids uuid[], out accounts text[], out types text[], out keys text[])
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  zero constant uuid := '00000000-0000-0000-0000-000000000000';
  top constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  seg record;
  found record;
begin
  xids := '{}'; ids := '{}'; accounts := '{}'; types := '{}'; keys := '{}';
  for seg in
    select lo, lo_id, hi, hi_id from (
      select y lo, zero lo_id, y hi, top hi_id from pg_snapshot_xip(p_snap) y where pg_visible_in_snapshot(y, p_cur)
      union all
      select coalesce(lag(v) over (order by v), pg_snapshot_xmax(p_snap)),
        case when lag(v) over (order by v) is null then zero else top end, v, zero
      from (select y v from pg_snapshot_xip(p_cur) y where y >= pg_snapshot_xmax(p_snap)
            union all select pg_snapshot_xmax(p_cur)) b
    ) segs order by lo, lo_id
  loop
    if p_key_xid is not null and seg.hi < p_key_xid then continue; end if;
    select array_agg(e.xid order by e.xid, e.id) xids, array_agg(e.id order by e.xid, e.id) ids,
        array_agg(e.account order by e.xid, e.id) accounts, array_agg(e.type order by e.xid, e.id) types,
        array_agg(e.idempotency_key order by e.xid, e.id) keys into found from (
      select e.xid, e.id, e.account, e.type, e.idempotency_key from ${s}.events e
      where (e.xid, e.id) > (
          case when (seg.lo, seg.lo_id) < (p_key_xid, p_key_id) then p_key_xid else seg.lo end,
          case when (seg.lo, seg.lo_id) < (p_key_xid, p_key_id) then p_key_id else seg.lo_id end)
        and (e.xid, e.id) < (seg.hi, seg.hi_id)
        -- Natively no row is inserted by an older transaction than the one that it names (in a savepoint: by a younger one).
        and (p_foreign_xid is null or e.xid > p_foreign_xid or (e.id >= p_floor and age(e.xmin) <= age(e.xid::xid)))
      order by e.xid, e.id limit p_limit - cardinality(ids)) e;
    if found.ids is not null then
      xids := xids || found.xids; ids := ids || found.ids; accounts := accounts || found.accounts;
      types := types || found.types; keys := keys || found.keys;
    end if;
    exit when cardinality(ids) >= p_limit;
  end loop;
end $$;

-- Commands are few: all of a window's at once. Those of replays are worked off by the dispatcher, the others are for the owners
-- of lanes.
create function ${s}.commands_in_window(p_snap pg_snapshot, p_cur pg_snapshot, p_foreign_xid xid8, p_floor uuid,
  out told text, out replays json, out n int)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select (json_agg(json_build_object('id', c.id, 'kind', c.kind, 'endpoint', c.endpoint, 'payload', c.payload)
        order by c.xid, c.id) filter (where c.kind <> 'replay'))::text,
      json_agg(json_build_object('endpoint', c.endpoint, 'chunk', c.payload::json) order by c.xid, c.id)
        filter (where c.kind = 'replay'),
      count(*)::int
  from (
    select c.*, c.xmin inserted from ${s}.commands c
    where c.xid >= pg_snapshot_xmax(p_snap) and c.xid < pg_snapshot_xmax(p_cur) and pg_visible_in_snapshot(c.xid, p_cur)
    union all
    select c.* from pg_snapshot_xip(p_snap) y cross join lateral (
      select x.*, x.xmin inserted from ${s}.commands x where x.xid = y offset 0) c
    where pg_visible_in_snapshot(y, p_cur)
  ) c
  where p_foreign_xid is null or c.xid > p_foreign_xid or (c.id >= p_floor and age(c.inserted) <= age(c.xid::xid))
$$;
`
}
