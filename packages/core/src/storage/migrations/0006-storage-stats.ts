/** What an operator is told of our storage. Estimates and index look-ups only, and nothing that an ordinary role may not read. */
export function storageStats(s: string): string {
  return /* sql */ `
-- Rows by Postgres' own counters; bytes of all partitions of a log together.
create function ${s}.table_sizes() returns table (name text, rows float8, dead_rows float8, table_bytes bigint, index_bytes bigint,
  partitions int) language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(p.relname, c.relname)::text, sum(greatest(coalesce(t.n_live_tup, 0), 0))::float8,
    sum(coalesce(t.n_dead_tup, 0))::float8, sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint,
    (count(*) filter (where p.oid is not null))::int
  from pg_class c
  left join pg_inherits i on i.inhrelid = c.oid
  left join pg_class p on p.oid = i.inhparent
  left join pg_stat_all_tables t on t.relid = c.oid
  where c.relnamespace = '${s}'::regnamespace and c.relkind = 'r'
  group by 1 order by 4 desc
$$;

-- The time of a transaction id, to the hour, from our marks: of other roles' transactions an ordinary role may not see more.
create function ${s}.xid_time(p_xid xid8) returns timestamptz language sql stable set search_path = pg_catalog, pg_temp as $$
  select m.at from ${s}.time_marks m where m.xid <= p_xid order by m.at desc limit 1
$$;

-- Whatever keeps vacuum from removing dead rows of this database, oldest first. Ids in Postgres' views have 32 bits; they lie
-- within two thousand million of the next one.
create function ${s}.vacuum_holders() returns table (kind text, holder text, since timestamptz, age_in_transactions bigint, detail text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  with next as (select pg_snapshot_xmax(pg_current_snapshot())::text::numeric::bigint n),
  held as (
    select 'session' kind, a.pid::text holder, a.xact_start since,
      greatest(age(a.backend_xmin), age(a.backend_xid)) old,
      concat_ws(' ', a.usename, nullif(a.application_name, ''), a.state) detail
    from pg_stat_activity a
    where (a.backend_xmin is not null or a.backend_xid is not null) and a.pid <> pg_backend_pid()
      and (a.datname = current_database() or a.datname is null)
    union all
    select 'prepared transaction', p.gid, p.prepared, age(p.transaction), p.owner::text
    from pg_prepared_xacts p where p.database = current_database()
    union all
    select 'replication slot', r.slot_name::text, null, age(r.xmin), concat_ws(' ', r.slot_type, case when r.active then 'active' else 'inactive' end)
    from pg_replication_slots r where r.xmin is not null
    union all
    select 'standby', t.pid::text, null, age(t.backend_xmin), concat_ws(' ', t.application_name, t.client_addr::text)
    from pg_stat_replication t where t.backend_xmin is not null
  )
  select h.kind, h.holder, coalesce(h.since, ${s}.xid_time((greatest(next.n - h.old, 0))::text::xid8)), h.old::bigint, h.detail
  from held h cross join next order by h.old desc
$$;

-- The oldest delivery that may be attempted now and is not: of a page that a lane has not recorded yet, of an endpoint that is
-- behind, or a retry that is due. What is held by its endpoint does not count.
create function ${s}.oldest_due() returns timestamptz language sql stable set search_path = pg_catalog, pg_temp as $$
  select least(
    (select min(p.at) from ${s}.lanes l
      left join lateral (select x.position from (select r.lanes, r.positions from ${s}.renewals r where r.token = l.token
          order by r.seq desc limit 1) w cross join unnest(w.lanes, w.positions) x(lane, position) where x.lane = l.lane) h on true
      cross join lateral (select d.at from ${s}.dispatches d
        where d.n > greatest(l.position, coalesce(h.position, 0)) and d.deliveries > 0 order by d.n limit 1) p),
    (select min(${s}.id_time(b.oldest)) from ${s}.backlogs b join ${s}.endpoints e on e.no = b.endpoint
      where e.active and e.disabled_at is null and e.deleted_at is null),
    (select min(r.due_at) from (select r.due_at, r.endpoint from ${s}.retries r where r.due_at <= ${s}.clock()
        order by r.due_at, r.delivery_id limit 1000) r join ${s}.endpoints e on e.no = r.endpoint
      where e.active and e.disabled_at is null and e.deleted_at is null))
$$;
`
}
