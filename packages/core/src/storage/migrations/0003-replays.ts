/**
 * Bulk replays: what was asked for and how far it is, and the step that hands on one chunk of it. The dispatcher turns a chunk
 * into deliveries.
 */
export function replays(s: string): string {
  return `${tables(s)}${chunks(s)}${step(s)}`
}

function tables(s: string): string {
  return /* sql */ `
create table ${s}.replays (
  -- The generation of its deliveries, so that a chunk that is handed on twice makes none twice. Those of a replay of 'missing'
  -- have generation 0, like the dispatcher's own.
  no int generated always as identity primary key,
  id uuid not null default ${s}.new_id() unique,
  account text not null,
  endpoint int not null,
  which text not null check (which in ('failed', 'missing', 'all')),
  since timestamptz not null,
  until timestamptz not null,
  -- Types of the endpoint that are stored only while somebody subscribes: some of their events may not exist.
  types_not_always_stored text[] not null default '{}',
  status text not null default 'running' check (status in ('running', 'completed', 'cancelled')),
  -- It goes through its window twice: to count, then to hand on.
  counted boolean not null default false,
  total bigint not null default 0,
  done bigint not null default 0,
  -- The last event that was looked at; of a replay of 'failed' the last delivery.
  through uuid not null,
  -- The transaction of the newest chunk; at first that of the replay itself. The next step waits until it is dispatched.
  handed_xid xid8 not null default pg_current_xact_id(),
  -- A delivery in the middle of the newest chunk: when it was attempted, the next chunk follows.
  mark uuid,
  created_at timestamptz not null default ${s}.clock(),
  finished_at timestamptz
) with (fillfactor = 50);
create unique index replays_running on ${s}.replays (endpoint) where status = 'running';
create index replays_by_endpoint on ${s}.replays (endpoint, no);
`
}

function chunks(s: string): string {
  return /* sql */ `
-- Each look-up has a LIMIT so that it is made row by row, by its index: the planner cannot know how few rows ask.
-- The events that a replay chooses among the next p_look that it looks at, and the key of the last of these; null at the end.
create function ${s}.replay_chunk(r ${s}.replays, p_events text[], p_look int, out chosen uuid[], out last uuid)
language plpgsql stable as $$
declare
  looked_at int;
begin
  if r.which = 'failed' then
    -- Over and not received, and nothing newer was made of the same event.
    with looked as materialized (
      select distinct a.delivery_id id from ${s}.attempts a
      where a.endpoint = r.endpoint and a.final and a.outcome <> 1
        and a.delivery_id > r.through and a.delivery_id < ${s}.id_floor(r.until)
      order by a.delivery_id limit p_look
    ),
    found as (
      select d.id, d.event_id from looked
      cross join lateral (select x.* from ${s}.deliveries x where x.id = looked.id limit 1) d
      where d.generation <> r.no
        and (select true from ${s}.attempts a where a.delivery_id = d.id and a.outcome = 1 limit 1) is null
        and (select true from ${s}.retries q where q.delivery_id = d.id limit 1) is null
        and (select true from ${s}.replays o
          cross join lateral (select from ${s}.deliveries x
            where x.id = ${s}.delivery_id(d.event_id, d.endpoint, o.no) limit 1) newer
          where o.endpoint = d.endpoint and o.no > d.generation and o.no <> r.no limit 1) is null
    )
    select count(*)::int, (array_agg(id order by id desc))[1],
        coalesce((select array_agg(event_id order by id) from found), '{}')
      into looked_at, last, chosen from looked;
  else
    with looked as materialized (
      select e.id, e.type from ${s}.events e
      where e.account = r.account and e.id > r.through and e.id < ${s}.id_floor(r.until)
      order by e.id limit p_look
    ),
    kinds as materialized (
      -- OFFSET: else the condition is checked for every event instead of once per type.
      select k.type from (select distinct type from looked offset 0) k where ${s}.patterns(k.type) && p_events
    ),
    found as (
      select looked.id from looked join kinds on kinds.type = looked.type
      where (select true from ${s}.duplicates u where u.event_id = looked.id limit 1) is null
        and (r.which = 'all' or (
          select true from (select 0 generation union all
              select o.no from ${s}.replays o where o.endpoint = r.endpoint and o.which <> 'missing') g
            cross join lateral (select from ${s}.deliveries x
              where x.id = ${s}.delivery_id(looked.id, r.endpoint, g.generation) limit 1) d
            limit 1) is null)
    )
    select count(*)::int, (array_agg(id order by id desc))[1],
        coalesce((select array_agg(id order by id) from found), '{}')
      into looked_at, last, chosen from looked;
  end if;
  if looked_at < p_look then last := null; end if;
end $$;
`
}

function step(s: string): string {
  return /* sql */ `
-- One step of a replay: 'more', to be called again at once; 'waiting', for the dispatcher or the endpoint; 'over'.
create function ${s}.replay_step(p_no int, p_look int) returns text language plpgsql as $$
declare
  r ${s}.replays;
  e ${s}.endpoints;
  c record;
  generation int;
  size int;
begin
  select * into r from ${s}.replays x where x.no = p_no and x.status = 'running';
  if not found then return 'over'; end if;
  select * into e from ${s}.endpoints x where x.no = r.endpoint;
  if e.deleted_at is not null then
    update ${s}.replays x set status = 'cancelled', finished_at = ${s}.clock() where x.no = r.no and x.status = 'running';
    return 'over';
  end if;
  -- It goes on when the endpoint is served again.
  if not e.active or e.disabled_at is not null then return 'waiting'; end if;
  if not pg_visible_in_snapshot(r.handed_xid, (select d.snap from ${s}.dispatches d order by d.n desc limit 1)) then
    return 'waiting';
  end if;
  -- No further ahead of the endpoint than a chunk and a half: what is emitted now need not wait behind all of it.
  if exists (select from ${s}.deliveries d where d.id = r.mark)
    and not exists (select from ${s}.attempts a where a.delivery_id = r.mark) then
    return 'waiting';
  end if;

  -- Only now, so that a step that waits writes nothing. Whoever else makes this step has changed the row then.
  perform from ${s}.replays x where x.no = r.no and x.status = 'running' and x.counted = r.counted and x.through = r.through
    for update skip locked;
  if not found then return 'waiting'; end if;

  c := ${s}.replay_chunk(r, e.events, p_look);
  size := cardinality(c.chosen);
  if not r.counted then
    update ${s}.replays x set total = x.total + size, counted = c.last is null,
      through = coalesce(c.last, ${s}.id_floor(x.since)) where x.no = r.no;
    return 'more';
  end if;
  generation := case when r.which = 'missing' then 0 else r.no end;
  if size > 0 then
    insert into ${s}.commands (kind, endpoint, payload)
      values ('replay', r.endpoint, json_build_object('generation', generation, 'events', c.chosen)::text);
  end if;
  update ${s}.replays x set done = x.done + size, through = coalesce(c.last, x.through),
    handed_xid = case when size > 0 then pg_current_xact_id() else x.handed_xid end,
    mark = case when size > 0 then ${s}.delivery_id(c.chosen[(size + 1) / 2], x.endpoint, generation) else x.mark end,
    -- Between counting and handing on, some were retried and some have failed.
    total = case when c.last is null then x.done + size else greatest(x.total, x.done + size) end,
    status = case when c.last is null then 'completed' else 'running' end,
    finished_at = case when c.last is null then ${s}.clock() end
  where x.no = r.no;
  return case when c.last is null then 'over' else 'more' end;
end $$;
`
}
