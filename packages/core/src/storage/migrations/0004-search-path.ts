/**
 * Makes our functions independent of the caller's `search_path`. Emit calls three of them on the host's own connection, whose
 * path may be empty, or begin with a schema in which others create functions, operators and types.
 *
 * Those three get bodies that are parsed here and now (`return …`), so that every name in them is settled, at no cost when
 * they are called: they are still inlined. The others, of the worker, get a path of their own; a later migration that
 * replaces one has to say so again.
 */
export function fixedSearchPath(s: string): string {
  return /* sql */ `
set local search_path = pg_catalog, pg_temp;

create or replace function ${s}.clock() returns timestamptz language sql volatile
return clock_timestamp();

do $do$ begin
  if current_setting('server_version_num')::int >= 180000 then
    execute 'create or replace function ${s}.new_id() returns uuid language sql volatile return uuidv7()';
  else
    execute $fn$
      create or replace function ${s}.new_id() returns uuid language sql volatile return (
        select (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex((us % 1000) * 4096 / 1000), 3, '0')
          || to_hex((2::bigint << 30) | (counter & 1073741823)) || lpad(to_hex((random() * 4294967295)::bigint), 8, '0'))::uuid
        from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint us, nextval('${s}.id_counter') counter offset 0) t)
    $fn$;
  end if;
end $do$;

create or replace function ${s}.patterns(type text) returns text[] language sql immutable strict
return (
  select array_append(array_agg(p order by length(p) desc), '*') from (
    select type p union all
    select array_to_string((string_to_array(type, '.'))[1:i], '.') || '.*'
      from generate_series(1, array_length(string_to_array(type, '.'), 1) - 1) i) x);

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
