/**
 * Makes the worker's functions of the migrations before independent of the caller's `search_path`; a later migration that makes or
 * replaces one has to say so itself.
 */
export function fixedSearchPath(s: string): string {
  return /* sql */ `
set local search_path = pg_catalog, pg_temp;

do $do$ declare
  f regprocedure;
begin
  for f in select p.oid::regprocedure from pg_proc p join pg_language l on l.oid = p.prolang
    where p.pronamespace = '${s}'::regnamespace and l.lanname = 'plpgsql'
  loop
    execute format('alter function %s set search_path = pg_catalog, pg_temp', f);
  end loop;
end $do$;
`
}
