/**
 * The clock, and ids. Emit calls the first two functions on the host's own connection, whose `search_path` may be empty, or begin
 * with a schema in which others create functions, operators and types: their bodies are parsed here and now (`return …`), so that
 * every name in them is settled, at no cost when they are called: they are still inlined.
 */
export function clockAndIds(s: string): string {
  return /* sql */ `
-- Also where a host runs these statements itself: every name in the bodies below is Postgres' own.
set local search_path = pg_catalog, pg_temp;

create table ${s}.installation (
  only_row boolean primary key default true check (only_row),
  name text not null,
  created_at timestamptz not null default clock_timestamp()
);

-- The one clock that rules read (when a retry is due, when an overlap ends). Tests replace this function to move time.
create function ${s}.clock() returns timestamptz language sql volatile
return clock_timestamp();

create sequence ${s}.id_counter;

-- Time-ordered ids, ascending within a session. From 18 on Postgres has its own; before, RFC 9562 version 7 by hand:
-- 48 bits of milliseconds, 12 bits of the millisecond's fraction, 30 bits of a counter, 32 random bits.
do $do$ begin
  if current_setting('server_version_num')::int >= 180000 then
    execute 'create function ${s}.new_id() returns uuid language sql volatile return uuidv7()';
  else
    execute $fn$
      create function ${s}.new_id() returns uuid language sql volatile return (
        select (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex((us % 1000) * 4096 / 1000), 3, '0')
          || to_hex((2::bigint << 30) | (counter & 1073741823)) || lpad(to_hex((random() * 4294967295)::bigint), 8, '0'))::uuid
        from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint us, nextval('${s}.id_counter') counter offset 0) t)
    $fn$;
  end if;
end $do$;

-- The smallest id of a moment: the bound of a partition, or of a look-up by time.
create function ${s}.id_floor(t timestamptz) returns uuid language sql immutable strict as
$$ select (lpad(to_hex((extract(epoch from t) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid $$;

-- A delivery's id follows from its event, endpoint and generation, with the event's time in front, to the 0.25 µs that its id
-- tells: it falls into the partition of the event's time, an event's deliveries lie side by side, and the primary key makes
-- "once per endpoint" true whatever is repeated.
-- Not strict, and with every cast written out: otherwise it is not inlined, which costs 6 µs for each delivery.
create function ${s}.delivery_id(event uuid, endpoint int, generation int) returns uuid language sql immutable as
$$ select (substr(event::text, 1, 14) || '8' || substr(event::text, 16, 3)
     || substr(md5(event::text || ':' || endpoint::text || ':' || generation::text), 17))::uuid $$;

-- The deliveries of an event are among those whose ids lie between these two.
create function ${s}.first_delivery_id(event uuid) returns uuid language sql immutable as
$$ select (substr(event::text, 1, 14) || '8' || substr(event::text, 16, 3) || '-0000-000000000000')::uuid $$;
create function ${s}.last_delivery_id(event uuid) returns uuid language sql immutable as
$$ select (substr(event::text, 1, 14) || '8' || substr(event::text, 16, 3) || '-ffff-ffffffffffff')::uuid $$;

-- 'a.b.c' → {a.b.c, a.b.*, a.*, *}: the patterns by which an event type can be subscribed to.
create function ${s}.patterns(type text) returns text[] language sql immutable strict
return (
  select array_append(array_agg(p order by length(p) desc), '*') from (
    select type p union all
    select array_to_string((string_to_array(type, '.'))[1:i], '.') || '.*'
      from generate_series(1, array_length(string_to_array(type, '.'), 1) - 1) i) x);
`
}
