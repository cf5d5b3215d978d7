import { subscriptionPatterns } from '../catalog/event-names.ts'

/**
 * The statements of emit. Every name in them says where it belongs, operators and types included: they run on the host's
 * connection, whose `search_path` may be anything.
 *
 * Privileges that they need are in docs/transactions.md; the returned `xid` is computed, not read, so that one who may only
 * emit need not read that column.
 */

/** One statement, in three forms. The guarded ones answer at least one row where they were inside, and none where not. */
export interface EmitStatement {
  /** For a connection that is known to be in a transaction, or that shall commit the statement by itself. */
  plain: string
  /** Writes only inside of a transaction. Its first row has that transaction's id as `xid`: always where it wrote. */
  inside: string
  /** Writes only inside of the transaction whose id is the last parameter. */
  same: string
}

export interface EmitStatements {
  always: EmitStatement
  /** Of this event type. */
  whenSubscribed(type: string): EmitStatement
  /** The events of one JSON text. */
  bulk: EmitStatement
  /** Marks the transaction, until its end: that of this statement, if there is none around it. */
  mark: string
}

const TEXT = 'pg_catalog.text'
const text = (parameter: string) => `${parameter}::${TEXT}`
const EQ = 'operator(pg_catalog.=)'
const CURRENT_XID = 'pg_catalog.pg_current_xact_id_if_assigned()'

/**
 * True where there is a transaction around the statement. A statement by itself has no transaction id before its first write,
 * and no setting that is local to a transaction outlives it: so with an id or the mark there is one, and it began before.
 */
export const insideTransaction = (mark: string): string =>
  `(${CURRENT_XID} is not null or pg_catalog.current_setting('posthaste.transaction', true) ${EQ} '${mark}')`

/** True in the transaction whose id is that parameter. */
export const sameTransaction = (parameter: string): string => `${CURRENT_XID} ${EQ} ${parameter}::pg_catalog.xid8`

/** Marks the transaction, until its end. The name is no setting of Postgres, so every role may set it. */
export const markTransaction = (mark: string): string =>
  `select pg_catalog.set_config('posthaste.transaction', '${mark}', true)`

/**
 * @param s the schema
 * @param mark letters and digits that nobody else uses: a setting of our name that others made must not look like ours
 */
export function emitStatements(s: string, envelope: 0 | 1, mark: string): EmitStatements {
  const columns = '(account, type, data, occurred_at, envelope, idempotency_key)'
  const values = `${text('$1')}, ${text('$2')}, ${text('$3')}, ${text('$4')}::pg_catalog.timestamptz, ${envelope}::pg_catalog.int2, ${text('$5')}`
  const id = `id::${TEXT} id`
  const idAndXid = `${id}, pg_catalog.pg_current_xact_id()::${TEXT} xid`
  // The patterns come from here: computed by the function of the schema they cost 0.35 ms an emit, ten times the rest.
  const subscribed = (account: string, patterns: string) => `exists (select 1 from ${s}.subscriptions s
      where s.account ${EQ} ${account} and s.pattern ${EQ} any (${patterns}))`
  const inside = insideTransaction(mark)
  const same = sameTransaction
  const insert = `insert into ${s}.events ${columns}`
  const whenSubscribed = (type: string): EmitStatement => {
    // Event types hold nothing that a literal could end at (catalog/event-names.ts).
    const ifSubscribed = subscribed(text('$1'), `'{${subscriptionPatterns(type).join(',')}}'::${TEXT}[]`)
    // A function writes: an INSERT in this statement is started and its partitions are locked also where it writes nothing,
    // which cost an unheard emit more than everything else in it.
    const written = `select case when ${ifSubscribed} then ${s}.write_event(${values}) end id`
    const guarded = (guard: string) => `${written}, ${CURRENT_XID}::${TEXT} xid where ${guard}`
    return { plain: written, inside: guarded(inside), same: guarded(same('$6')) }
  }
  const ofTypes = new Map<string, EmitStatement>()
  return {
    always: {
      plain: `${insert} values (${values}) returning ${id}`,
      inside: `${insert} select ${values} where ${inside} returning ${idAndXid}`,
      same: `${insert} select ${values} where ${same('$6')} returning ${id}`,
    },
    whenSubscribed(type) {
      const known = ofTypes.get(type) ?? whenSubscribed(type)
      ofTypes.set(type, known)
      return known
    },
    bulk: {
      plain: bulk(s, envelope, subscribed, ''),
      inside: bulk(s, envelope, subscribed, `where ${inside}`),
      same: bulk(s, envelope, subscribed, `where ${same('$2')}`),
    },
    mark: markTransaction(mark),
  }
}

/** Ids are given before the insert, so that each can be answered in its event's place. */
function bulk(
  s: string,
  envelope: 0 | 1,
  subscribed: (account: string, patterns: string) => string,
  guard: string,
): string {
  return `with given as materialized (
      select g.*, (g.w is null or ${subscribed('g.a', 'g.w')}) stored, ${s}.new_id() id
      from rows from (pg_catalog.json_to_recordset(${text('$1')}::pg_catalog.json)
          as (a ${TEXT}, t ${TEXT}, d ${TEXT}, o pg_catalog.timestamptz, k ${TEXT}, w ${TEXT}[]))
        with ordinality g(a, t, d, o, k, w, ord) ${guard} order by g.ord
    ), written as (
      insert into ${s}.events (id, account, type, data, occurred_at, envelope, idempotency_key)
      select id, a, t, d, o, ${envelope}::pg_catalog.int2, k from given where stored order by ord
    )
    select case when stored then id::${TEXT} end id from given order by ord`
}
