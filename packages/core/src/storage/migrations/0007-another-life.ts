/**
 * What makes a database that moved go on as if it had not: who may work here at all (`refusal`), and sequences above
 * what exists. `0007-left-over.ts` is the dispatcher's part of it.
 */
export function anotherLife(s: string): string {
  return `${columns(s)}${sequences(s)}${mayWork(s)}`
}

function columns(s: string): string {
  return /* sql */ `
-- Set while an adoption that discards is under way: nobody works until it is over.
alter table ${s}.installation add column adopting text check (adopting in ('continue', 'discard'));

-- The life in which a worker registered: in another one nothing that it remembers is true, and nothing it writes counts.
alter table ${s}.workers add column life text;

-- The transaction that wrote the row. A row that was copied, by whatever means, was inserted by another one: then the
-- transaction ids in it mean nothing here.
alter table ${s}.dispatches add column xid xid8;
alter table ${s}.dispatches alter xid set default pg_current_xact_id();
-- Since the last move: rows of events and commands with a transaction id up to foreign_xid may be of another life …
alter table ${s}.dispatches add column foreign_xid xid8;
-- … and are so where their id is below this one.
alter table ${s}.dispatches add column floor uuid;
-- Where the life before had come to, as long as what it had left over is being dispatched.
alter table ${s}.dispatches add column rest json;
`
}

function sequences(s: string): string {
  return /* sql */ `
-- Logical replication copies rows and no sequences: sets ours above what exists, where they are below.
create function ${s}.raise_sequences() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  owned record;
  highest bigint;
  next_value bigint;
begin
  for owned in select * from (values ('endpoints', 'no'), ('replays', 'no'), ('workers', 'token'), ('renewals', 'seq')) o(t, c) loop
    execute format('select coalesce(max(%I), 0) from ${s}.%I', owned.c, owned.t) into highest;
    execute format('select last_value + is_called::int from %s', pg_get_serial_sequence('${s}.' || owned.t, owned.c)) into next_value;
    if next_value <= highest then
      -- One after the other, and not below what somebody has raised in the meantime.
      perform pg_advisory_xact_lock(hashtextextended('${s}.raise_sequences', 0));
      execute format('select last_value + is_called::int from %s', pg_get_serial_sequence('${s}.' || owned.t, owned.c)) into next_value;
      if next_value <= highest then
        perform setval(pg_get_serial_sequence('${s}.' || owned.t, owned.c), highest);
      end if;
    end if;
  end loop;
end $$;
`
}

function mayWork(s: string): string {
  return /* sql */ `
-- Disabling does not interrupt a transaction that is being applied: its worker ends after that one, and so does the replication.
create function ${s}.is_replica() returns boolean language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from pg_subscription x join pg_subscription_rel r on r.srsubid = x.oid join pg_class c on c.oid = r.srrelid
    where (x.subenabled or exists (select from pg_stat_subscription w where w.subid = x.oid and w.pid is not null))
      and x.subdbid = (select d.oid from pg_database d where d.datname = current_database())
      and c.relnamespace = '${s}'::regnamespace)
$$;

-- Why nothing may be dispatched or sent from here by an installation of this name; null where it may.
-- other: the database belongs to another name. adopting: an adoption is under way. replica: logical replication still writes
-- into our tables, so the database that they come from is the one that sends.
create function ${s}.refusal(p_installation text) returns text language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  here ${s}.installation;
begin
  select * into here from ${s}.installation;
  if here.name is distinct from p_installation then return 'other'; end if;
  if here.adopting is not null then return 'adopting'; end if;
  if ${s}.is_replica() then return 'replica'; end if;
  return null;
end $$;
`
}
