/** Which life of a database this is, and the first position: what is committed from here on is dispatched. */
export function firstPosition(s: string): string {
  return /* sql */ `
-- System identifier and timeline: a new cluster has another identifier, a promoted standby another timeline. Where a managed
-- Postgres refuses to tell, '?' stands for that part and changes nothing by itself.
-- 6 µs, measured, of which the file pg_control is 4: so everybody may ask each time, whatever pooler lies in between.
create function ${s}.life() returns text language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  cluster text := '?';
  timeline text := '?';
begin
  begin
    cluster := (select c.system_identifier::text from pg_control_system() c);
  exception when others then null;
  end;
  begin
    timeline := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
  exception when others then null;
  end;
  return cluster || '/' || timeline;
end $$;

insert into ${s}.dispatches (n, life, snap, last_seq, events, deliveries)
values (0, ${s}.life(), pg_current_snapshot(), 0, 0, 0);
`
}
