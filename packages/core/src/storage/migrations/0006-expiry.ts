/**
 * Deliveries that waited too long end visibly: a final row among their attempts with the outcome `expired`, without a send. Called for
 * one endpoint at a time, by its lane's owner (fenced by its token), or for an endpoint that is held, by whoever does upkeep.
 */
export function expiry(s: string): string {
  return /* sql */ `
-- Ends what has waited longer than p_waited: deliveries made before then and never attempted, with p_after < seq <= p_through,
-- and retries that were due before then. p_except: what the owner has under way. A call ends at most p_limit of either.
-- The rows: what was ended; the last one, without a delivery, says how far deliveries were looked through and whether there may
-- be more. No row at all: fenced, or the endpoint is not held (any more).
-- Its settings are those of the readers (0005): by (endpoint, seq) and (endpoint, due), whatever the planner believes.
create function ${s}.expire_waiting(p_token bigint, p_endpoint int, p_after bigint, p_through bigint, p_oldest uuid,
  p_waited interval, p_except uuid[], p_limit int)
returns table (delivery text, event text, type text, through bigint, more boolean) language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off
set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare
  now_is constant timestamptz := ${s}.clock();
  last_seq bigint;
begin
  if p_token is not null then
    perform from ${s}.workers w where w.token = p_token and not w.fenced for share;
  else
    -- Locked, so that it is not switched on meanwhile; and long enough off that nothing of it is under way.
    perform from ${s}.endpoints e where e.no = p_endpoint and e.deleted_at is null and (not e.active or e.disabled_at is not null)
      and e.updated_at < now_is - interval '5 minutes' for share;
  end if;
  if not found then return; end if;

  last_seq := least(p_through, coalesce(
    (select m.seq from ${s}.time_marks m where m.at <= now_is - p_waited order by m.at desc limit 1), 0));
  return query
  with fresh as materialized (
    select d.id, d.seq, d.event_id from ${s}.deliveries d
    where d.endpoint = p_endpoint and d.seq > p_after and d.seq <= last_seq and d.id >= p_oldest order by d.seq limit p_limit
  ),
  late as materialized (
    select r.delivery_id id, r.seq, r.event_id, r.step from ${s}.retries r
    where r.endpoint = p_endpoint and r.due_at < now_is - p_waited and r.delivery_id <> all (p_except)
    order by r.due_at, r.delivery_id limit p_limit
  ),
  over as materialized (
    select f.id, f.seq, f.event_id, 1 number from fresh f
    where f.id <> all (p_except) and (select true from ${s}.attempts a where a.delivery_id = f.id limit 1) is null
    union all
    select distinct l.id, l.seq, l.event_id,
      coalesce((select a.number from ${s}.attempts a where a.delivery_id = l.id order by a.number desc limit 1), 0) + 1
    from late l
  ),
  ended as (
    insert into ${s}.attempts (delivery_id, number, endpoint, seq, outcome, final, at)
    select o.id, o.number, p_endpoint, o.seq, 3, true, now_is from over o order by o.seq
    on conflict do nothing
  ),
  gone as (
    delete from ${s}.retries q using late l where q.delivery_id = l.id and q.step = l.step
  )
  select o.id::text, o.event_id::text, (select e.type from ${s}.events e where e.id = o.event_id limit 1), null::bigint, null::boolean
  from over o
  union all
  select null, null, null,
    case when (select count(*) from fresh) < p_limit then greatest(p_after, last_seq) else (select max(f.seq) from fresh f) end,
    (select count(*) from fresh) >= p_limit or (select count(*) from late) >= p_limit;
end $$;
`
}
