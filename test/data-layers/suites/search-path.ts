/** `search_path` set to anything, also to a schema in which everything that emit might mean is something else. */
import postgres from 'postgres'
import { afterEach, beforeAll, expect, test } from 'vitest'
import type { Host } from './host.ts'

/** Whatever of this is called fails; whatever is compared or converted comes out wrong. */
export const HOSTILE_SCHEMA = `
  create schema hostile;
  create function hostile.hijacked() returns text language plpgsql as $$ begin raise exception 'hijacked'; end $$;
  create domain hostile.text as pg_catalog.text check (hostile.hijacked() is null);
  create domain hostile.json as pg_catalog.text check (hostile.hijacked() is null);
  create domain hostile.uuid as pg_catalog.text check (hostile.hijacked() is null);
  create domain hostile.bool as pg_catalog.text check (hostile.hijacked() is null);
  create domain hostile.int2 as pg_catalog.text check (hostile.hijacked() is null);
  create domain hostile.timestamptz as pg_catalog.text check (hostile.hijacked() is null);
  create function hostile.equal(pg_catalog.text, pg_catalog.text) returns boolean language sql as $$ select hostile.hijacked() is null $$;
  create operator hostile.= (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = hostile.equal);
  create function hostile.joined(pg_catalog.text, pg_catalog.text) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create operator hostile.|| (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = hostile.joined);
  create function hostile.set_config(pg_catalog.text, pg_catalog.text, boolean) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create function hostile.current_setting(pg_catalog.text, boolean) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create function hostile.current_setting(pg_catalog.text) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create function hostile.pg_current_xact_id() returns xid8 language sql as $$ select hostile.hijacked()::xid8 $$;
  create function hostile.pg_current_xact_id_if_assigned() returns xid8 language sql as $$ select hostile.hijacked()::xid8 $$;
  create function hostile.clock_timestamp() returns timestamp with time zone language sql as $$ select hostile.hijacked()::timestamp with time zone $$;
  create function hostile.json_to_recordset(pg_catalog.json) returns setof record language sql as $$ select hostile.hijacked() $$;
  create function hostile.uuidv7() returns pg_catalog.uuid language sql as $$ select hostile.hijacked()::pg_catalog.uuid $$;
  create function hostile.lpad(pg_catalog.text, int, pg_catalog.text) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create function hostile.to_hex(bigint) returns pg_catalog.text language sql as $$ select hostile.hijacked() $$;
  create function hostile.random() returns double precision language sql as $$ select hostile.hijacked()::double precision $$;
  create function hostile.nextval(regclass) returns bigint language sql as $$ select hostile.hijacked()::bigint $$;
  create function hostile.string_to_array(pg_catalog.text, pg_catalog.text) returns pg_catalog.text[] language sql as $$ select array[hostile.hijacked()] $$;
  create function hostile.length(pg_catalog.text) returns int language sql as $$ select hostile.hijacked()::int $$;
  create table hostile.events (id int);
  create table hostile.subscriptions (id int);
  create table hostile.installation (id int);`

export function describeSearchPath(host: () => Host): void {
  beforeAll(() => host().sql.unsafe(HOSTILE_SCHEMA).simple())
  afterEach(() => host().clear())

  test.each([
    ['an empty one', `''`],
    ['temporary tables only', 'pg_temp'],
    ['a schema of others', 'hostile'],
    ['a schema of others before that of Postgres', 'hostile, pg_catalog, public'],
  ])('emits with %s', async (_name, path) => {
    const { webhooks, sql } = host()
    await sql.begin(async (tx) => {
      await tx.unsafe(`set local search_path = ${path}`)
      await webhooks.emit('test.happened', { n: 1 }, { tx })
      await webhooks.emit('test.happened', { n: 2 }, { tx, occurredAt: new Date(), idempotencyKey: 'k' })
      await webhooks.emit('test.seen', { n: 3 }, { tx })
      await webhooks.emitMany(
        [
          { type: 'test.happened', data: { n: 4 }, occurredAt: new Date() },
          { type: 'test.seen', data: { n: 5 } },
        ],
        { tx },
      )
    })
    expect((await host().state()).events).toEqual([1, 2, 4])
  })

  test('the hostile schema is one', async () => {
    const { sql } = host()
    const hijacked = sql.begin(async (tx) => {
      await tx.unsafe('set local search_path = hostile, pg_catalog')
      await tx.unsafe(`select pg_current_xact_id_if_assigned()`)
    })
    await expect(hijacked).rejects.toThrow('hijacked')
  })

  test('migrates with such a path, and afterwards emits from a client that never says otherwise', async () => {
    const { sql, another, url } = host()
    const other = another({ schema: 'second', queueSchema: 'second_worker' })
    const [row] = await sql`select current_database() name`
    await sql.unsafe(`alter database ${row?.name} set search_path = hostile, pg_catalog`)
    const client = postgres(url, { max: 1, onnotice: () => {} })
    try {
      await other.migrate()
      await client.begin((tx) => other.emit('test.happened', { n: 1 }, { tx }))
      const rows = await sql`select data from second.events`
      expect(rows.map(({ data }) => data)).toEqual(['{"n":1}'])
    } finally {
      await client.end({ timeout: 5 })
      await sql.unsafe(`alter database ${row?.name} reset search_path`)
    }
  })
}
