/**
 * Upkeep of the partitioned logs: partitions ahead of time, what fell into the DEFAULT partition moved out of it, and weeks that
 * are older than the host keeps them removed, without a host's transaction ever waiting for longer than the `lock_timeout`s here.
 *
 * The functions belong to whoever migrates and run with that role's rights (SECURITY DEFINER), so that a worker's role need
 * not own the tables; PUBLIC may not call them.
 */
export function partitionUpkeep(s: string, lockKey: string): string {
  return `${marks(s)}${ahead(s)}${strays(s)}${removal(s, lockKey)}${rights(s)}`
}

/** What runs with the owner's rights. */
const settings = `language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '150ms'`

function marks(s: string): string {
  return /* sql */ `
-- Which sequence number, and which transaction id, was the newest at which time: a row an hour. It tells how long a delivery
-- has waited (a replay's event is older than its delivery), and since when a transaction is open.
create table ${s}.time_marks (
  at timestamptz primary key,
  seq bigint not null,
  xid xid8 not null
);
insert into ${s}.time_marks select ${s}.clock(), last_seq, pg_snapshot_xmax(pg_current_snapshot())
  from ${s}.dispatches order by n desc limit 1;

-- Weeks past their time that are still there, and why. Rows change when the reason does.
create table ${s}.leaving_weeks (
  week timestamptz primary key,
  -- locked: a transaction or a backup is reading or writing it. undispatched, replay: still needed. kept: something in it has
  -- not ended, or failed and is kept for longer. strays: some of it is in the DEFAULT partitions. empty: to be dropped.
  state text not null,
  since timestamptz not null default ${s}.clock(),
  -- Deliveries that keep it.
  kept bigint not null default 0
);

create function ${s}.id_time(id uuid) returns timestamptz language sql immutable strict
return to_timestamp(('x' || substr(id::text, 1, 8) || substr(id::text, 10, 4))::bit(48)::bigint / 1000.0);

-- The partitioned logs: whatever concerns one event lies in the same week of all three.
create function ${s}.week_logs() returns table (parent text, key text) language sql immutable
as $$ values ('attempts', 'delivery_id'), ('deliveries', 'id'), ('events', 'id') $$;

create function ${s}.week_suffix(week timestamptz) returns text language sql immutable
return '_' || to_char(week at time zone 'UTC', 'YYYYMMDD');

-- The weeks that have a partition, oldest first.
create function ${s}.weeks() returns table (week timestamptz) language sql stable set search_path = pg_catalog, pg_temp as $$
  select distinct to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent in (select ('${s}.' || l.parent)::regclass from ${s}.week_logs() l) and c.relname ~ '_[0-9]{8}$'
  order by 1
$$;
`
}

function ahead(s: string): string {
  return /* sql */ `
-- Weekly partitions from one time to another. LIKE + ATTACH waits for no emitter. ATTACH locks the DEFAULT partition and reads
-- it through; while that holds rows, emitters may be writing there, so it needs the guard below. Answers how many it made, or
-- -1 where some wait for the guard.
create function ${s}.make_partitions(p_from timestamptz, p_until timestamptz) returns int ${settings} as $$
declare
  week timestamptz := date_trunc('week', p_from at time zone 'UTC') at time zone 'UTC';
  l record;
  part text;
  strays boolean;
  guarded timestamptz;
  made int := 0;
  waits boolean := false;
begin
  while week < p_until loop
    for l in select * from ${s}.week_logs() loop
      part := l.parent || ${s}.week_suffix(week);
      if to_regclass('${s}.' || part) is not null then continue; end if;
      execute format('select exists (select from ${s}.%I)', l.parent || '_default') into strays;
      if strays then
        select to_date(right(c.conname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' into guarded from pg_constraint c
          where c.conrelid = ('${s}.' || l.parent || '_default')::regclass and c.conname like 'guard\\_%' and c.convalidated;
        if guarded is null or week < guarded then
          waits := true;
          continue;
        end if;
      end if;
      execute format('create table ${s}.%I (like ${s}.%I including all)', part, l.parent);
      execute format('alter table ${s}.%I attach partition ${s}.%I for values from (%L) to (%L)',
        l.parent, part, ${s}.id_floor(week), ${s}.id_floor(week + interval '7 days'));
      made := made + 1;
    end loop;
    week := week + interval '7 days';
  end loop;
  return case when waits then -1 else made end;
end $$;

-- Says of DEFAULT partitions that hold rows that they hold none of the weeks from p_from, which must lie ahead, to p_until:
-- once that is validated, which blocks nobody, attaching those weeks reads nothing. It refuses such rows for as long as it stands,
-- so it is taken away at once when they are attached, and whoever finds one left by a crash takes it away before anything else.
create function ${s}.guard_default(p_from timestamptz, p_until timestamptz) returns void ${settings} as $$
declare
  l record;
  strays boolean;
begin
  if p_from < clock_timestamp() + interval '1 day' then
    raise exception 'the guard must begin a day ahead';
  end if;
  for l in select * from ${s}.week_logs() loop
    execute format('select exists (select from ${s}.%I)', l.parent || '_default') into strays;
    if not strays then continue; end if;
    execute format('alter table ${s}.%I add constraint %I check (%I < %L or %I >= %L) not valid', l.parent || '_default',
      'guard' || ${s}.week_suffix(p_from), l.key, ${s}.id_floor(p_from), l.key, ${s}.id_floor(p_until));
  end loop;
end $$;

create function ${s}.validate_guard() returns void ${settings} as $$
declare
  c record;
begin
  for c in select x.conname, x.conrelid::regclass part from pg_constraint x
    where x.conrelid in (select ('${s}.' || l.parent || '_default')::regclass from ${s}.week_logs() l) and x.conname like 'guard\\_%'
  loop
    execute format('alter table %s validate constraint %I', c.part, c.conname);
  end loop;
end $$;

create function ${s}.unguard_default() returns int ${settings} as $$
declare
  c record;
  gone int := 0;
begin
  for c in select x.conname, x.conrelid::regclass part from pg_constraint x
    where x.conrelid in (select ('${s}.' || l.parent || '_default')::regclass from ${s}.week_logs() l) and x.conname like 'guard\\_%'
  loop
    execute format('alter table %s drop constraint %I', c.part, c.conname);
    gone := gone + 1;
  end loop;
  return gone;
end $$;
`
}

function strays(s: string): string {
  return /* sql */ `
-- Moves what fell into one log's DEFAULT partition into weeks of its own, keeping each row as it is (the dispatcher finds events
-- by their xid). Copying only holds up those who write to DEFAULT; then the log is locked for as long as it takes to empty
-- DEFAULT and attach the copies: whoever plans a query sees either all of it before or all of it after. Answers the rows
-- moved; -1 while rows are so young that emitters may be writing there.
create function ${s}.move_strays(p_parent text) returns bigint ${settings} as $$
declare
  key_column text;
  stray text := p_parent || '_default';
  w timestamptz;
  weeks timestamptz[];
  young boolean;
  part text;
  copied bigint;
  moved bigint := 0;
begin
  select l.key into strict key_column from ${s}.week_logs() l where l.parent = p_parent;
  execute format('select exists (select from ${s}.%I)', stray) into young;
  if not young then return 0; end if;
  execute format('lock table ${s}.%I in share mode', stray);
  execute format('select exists (select from ${s}.%I where %I >= $1 and %I < $2)', stray, key_column, key_column) into young
    using ${s}.id_floor(clock_timestamp() - interval '10 minutes'), ${s}.id_floor(clock_timestamp() + interval '10 minutes');
  if young then return -1; end if;
  execute format('select array(select distinct date_trunc(''week'', ${s}.id_time(%I) at time zone ''UTC'') at time zone ''UTC'' from ${s}.%I)',
    key_column, stray) into weeks;
  foreach w in array weeks loop
    part := p_parent || ${s}.week_suffix(w);
    execute format('create table ${s}.%I (like ${s}.%I including all)', part, p_parent);
    -- So that attaching it need not read it.
    execute format('alter table ${s}.%I add constraint bounds check (%I >= %L and %I < %L)', part,
      key_column, ${s}.id_floor(w), key_column, ${s}.id_floor(w + interval '7 days'));
    execute format('insert into ${s}.%I select * from ${s}.%I where %I >= $1 and %I < $2', part, stray, key_column, key_column)
      using ${s}.id_floor(w), ${s}.id_floor(w + interval '7 days');
    get diagnostics copied = row_count;
    moved := moved + copied;
  end loop;
  execute format('lock table only ${s}.%I in access exclusive mode', p_parent);
  execute format('truncate ${s}.%I', stray);
  foreach w in array weeks loop
    part := p_parent || ${s}.week_suffix(w);
    execute format('alter table ${s}.%I attach partition ${s}.%I for values from (%L) to (%L)',
      p_parent, part, ${s}.id_floor(w), ${s}.id_floor(w + interval '7 days'));
    execute format('alter table ${s}.%I drop constraint bounds', part);
  end loop;
  return moved;
end $$;
`
}

function removal(s: string, lockKey: string): string {
  return /* sql */ `
-- Empties a week past its time, or what of it nobody needs: deliveries that have not ended stay, with their events and attempts, and
-- so do failed ones of p_keep_failed and those that expired within p_keep. Locks that week's partitions only, where no
-- emitter is; a transaction that emitted back then, or a backup, makes it fail with lock_not_available, to be tried later.
-- Answers 'empty', 'kept', 'undispatched', 'replay', 'strays', 'busy' (somebody else is at it) or 'current'.
create function ${s}.trim_week(p_week timestamptz, p_keep interval, p_keep_failed interval, p_limit interval,
  out state text, out kept bigint) ${settings} as $$
declare
  ev text := 'events' || ${s}.week_suffix(p_week);
  dl text := 'deliveries' || ${s}.week_suffix(p_week);
  att text := 'attempts' || ${s}.week_suffix(p_week);
  week_end constant timestamptz := p_week + interval '7 days';
  part text;
  present bigint;
  yes boolean;
begin
  kept := 0;
  if not pg_try_advisory_xact_lock(${lockKey}) then state := 'busy'; return; end if;
  -- Whatever the host's options say: never a week that may still be written to.
  if week_end > least(${s}.clock(), clock_timestamp()) - interval '1 day' then state := 'current'; return; end if;

  if to_regclass('${s}.' || ev) is null or to_regclass('${s}.' || dl) is null or to_regclass('${s}.' || att) is null then
    -- Partly dropped: the rest is empty, or holds what was written when it was gone. Or a part of it is still in DEFAULT.
    select exists (select from ${s}.events e where e.id >= ${s}.id_floor(p_week) and e.id < ${s}.id_floor(week_end)) into yes;
    state := case when yes then 'strays' else 'empty' end;
    foreach part in array case when yes then '{}' else array[att, dl, ev] end loop
      if to_regclass('${s}.' || part) is null then continue; end if;
      execute format('select exists (select from ${s}.%I)', part) into yes;
      if yes then execute format('truncate ${s}.%I', part); end if;
    end loop;
    return;
  end if;

  -- Can it be had at all? Looking through it for what is needed takes seconds, which a backup that runs for hours should not
  -- make us spend again and again. Rolled back, so nothing stays locked.
  begin
    execute format('lock table ${s}.%I, ${s}.%I, ${s}.%I in access exclusive mode', att, dl, ev);
    raise exception using errcode = 'PH001';
  exception when sqlstate 'PH001' then
  end;
  -- From here on nothing is added to it; it can still be read.
  execute format('lock table ${s}.%I, ${s}.%I, ${s}.%I in share mode', att, dl, ev);

  execute format('select exists (select from ${s}.%I e cross join (select d.* from ${s}.dispatches d order by d.n desc limit 1) d
    -- After a move, until what was left over is dispatched; and then but for copied rows (see 0007).
    where d.rest is not null or (e.xid >= pg_snapshot_xmin(d.snap) and not pg_visible_in_snapshot(e.xid, d.snap)
      and (d.foreign_xid is null or e.xid > d.foreign_xid or (e.id >= d.floor and age(e.xmin) <= age(e.xid::xid)))))', ev) into yes;
  -- And what waits for its turn, or is aside (0008).
  yes := yes or exists (select from (select d.* from ${s}.dispatches d order by d.n desc limit 1) d
    where ${s}.id_floor(week_end) > any (d.aside_ids) or exists (select from ${s}.turns t
      where (t.tag, t.n) > (d.turn_tag, d.turn_n - (d.turn_done is not null)::int) and t.oldest < ${s}.id_floor(week_end)));
  if yes then state := 'undispatched'; return; end if;
  select exists (select from ${s}.replays r where (r.status = 'running' or r.finished_at > ${s}.clock() - interval '1 hour')
    and r.since < week_end and r.until > p_week and (r.status <> 'running' or r.through < ${s}.id_floor(week_end))) into yes;
  if yes and week_end > ${s}.clock() - p_limit then state := 'replay'; return; end if;

  -- An end that is no reason to keep it: a success, or a failure that is not kept. What has none has failed and is kept, or waits,
  -- if its endpoint is still there.
  execute format('create table ${s}.trim_deliveries as select d.* from ${s}.%I d
    where not exists (select from ${s}.%I a where a.delivery_id = d.id and a.final
        and (a.outcome = 1 or not ($1 or (a.outcome = 3 and a.at > $2))))
      and (exists (select from ${s}.endpoints e where e.no = d.endpoint and e.deleted_at is null)
        or exists (select from ${s}.%I a where a.delivery_id = d.id and a.final))', dl, att, att)
    using week_end > ${s}.clock() - p_keep_failed, ${s}.clock() - p_keep;
  get diagnostics kept = row_count;
  state := case when kept = 0 then 'empty' else 'kept' end;
  -- Copies are put back under a lock that readers wait for: so not very many, nor where hardly anything would be gained.
  if kept > 0 then
    execute format('select count(*) from ${s}.%I', dl) into present;
  end if;
  if kept = 0 then
    execute format('truncate ${s}.%I, ${s}.%I, ${s}.%I', att, dl, ev);
  elsif kept <= 100000 and kept * 4 <= present then
    execute format('create table ${s}.trim_events as select e.* from ${s}.%I e
      where e.id in (select d.event_id from ${s}.trim_deliveries d)', ev);
    execute format('create table ${s}.trim_attempts as select a.* from ${s}.%I a
      where a.delivery_id in (select d.id from ${s}.trim_deliveries d)', att);
    execute format('truncate ${s}.%I, ${s}.%I, ${s}.%I', att, dl, ev);
    execute format('insert into ${s}.%I select * from ${s}.trim_events order by id', ev);
    execute format('insert into ${s}.%I select * from ${s}.trim_deliveries order by seq', dl);
    execute format('insert into ${s}.%I select * from ${s}.trim_attempts order by delivery_id, number', att);
    drop table ${s}.trim_events, ${s}.trim_attempts;
  end if;
  drop table ${s}.trim_deliveries;
end $$;

-- Drops one log's partition of a week, if it is empty. This has to lock the log itself for a moment: an emitter that is open makes
-- it fail with lock_not_available, and one that comes while it waits waits no longer than the lock_timeout. One log per
-- transaction, so that nobody waits for two of these. Answers whether it is gone.
create function ${s}.drop_week(p_parent text, p_week timestamptz) returns boolean ${settings} as $$
declare
  part text := p_parent || ${s}.week_suffix(p_week);
  yes boolean;
begin
  if not exists (select from ${s}.week_logs() l where l.parent = p_parent) then
    raise exception 'there is no log %', p_parent;
  end if;
  if to_regclass('${s}.' || part) is null then return true; end if;
  if p_week + interval '8 days' > least(${s}.clock(), clock_timestamp()) then return false; end if;
  execute format('select exists (select from ${s}.%I)', part) into yes;
  if yes then return false; end if;
  execute format('lock table only ${s}.%I in access exclusive mode', p_parent);
  execute format('lock table ${s}.%I in access exclusive mode', part);
  execute format('select exists (select from ${s}.%I)', part) into yes;
  if yes then return false; end if;
  execute format('drop table ${s}.%I', part);
  return true;
end $$;
`
}

function rights(s: string): string {
  return /* sql */ `
revoke execute on function ${s}.make_partitions(timestamptz, timestamptz), ${s}.guard_default(timestamptz, timestamptz),
  ${s}.validate_guard(), ${s}.unguard_default(), ${s}.move_strays(text),
  ${s}.trim_week(timestamptz, interval, interval, interval), ${s}.drop_week(text, timestamptz) from public;

select ${s}.make_partitions(clock_timestamp(), clock_timestamp() + interval '37 days');
`
}
