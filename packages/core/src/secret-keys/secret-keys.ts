/** Changing the key under which secrets lie in the database, while everything runs: what is under which key, and sealing anew. */
import { toPublicId } from '../ids.ts'
import { errorFields, type Logger } from '../logger.ts'
import type { Keyring } from '../signing/keyring.ts'
import { keptAnswerSealContext, removeStaleAnswers } from '../storage/kept-answers.ts'
import { and, eq, type SQL, sql } from '../storage/orm.ts'
import { endpointSealContext, type Store, type Tables, type WriteScope } from '../storage/tables.ts'

/** How much lies under one key. */
export interface SecretKeyUse {
  /** The key's id; null for what is stored plain. */
  key: string | null
  /** This process seals with it. */
  current: boolean
  /** This process can open it. Where it cannot, deliveries of these endpoints wait in it; none of them fails. */
  available: boolean
  endpoints: number
  /** Answers to a POST with an `Idempotency-Key`, kept for a day. */
  keptAnswers: number
}

export interface ResealReport {
  /** Endpoints whose secrets are under the current key since this call. */
  endpoints: number
  /** Kept answers, likewise. */
  keptAnswers: number
  /** Endpoints and answers that could not be opened, for want of a key or because they were damaged: as they were, and logged. */
  unreadable: number
}

/** Secrets at rest, for the operator who changes their key. docs/security.md has the procedure. */
export interface SecretKeys {
  /** Every key under which something lies, by id. A key that is not in this list any more can be removed. */
  usage(): Promise<SecretKeyUse[]>
  /**
   * Seals whatever is plain or under another key anew, under the current one, in batches: beside running workers and API
   * requests, which notice nothing, and more than once at a time. What a process with older options writes meanwhile is left
   * to the next call, as is what was left when a call ended early.
   */
  reseal(): Promise<ResealReport>
}

export interface SecretKeysOptions {
  store: Store
  keyring: Keyring
  logger: Logger
}

/** Rows locked at once; an API request that changes one of them waits for milliseconds. */
const BATCH = 100

type EndpointSeals = Pick<
  Tables['endpoints']['$inferSelect'],
  'no' | 'id' | 'secret' | 'previous_secret' | 'headers' | 'deleted_at'
> & { expired: boolean | null }

export function createSecretKeys({ store, keyring, logger }: SecretKeysOptions): SecretKeys {
  const { endpoints, retired_secrets: retired, api_idempotency: answers } = store.tables
  /** SQL: this column holds something that is not under the current key. */
  const isOther = (column: SQL | { getSQL(): SQL }) => sql`not starts_with(${column}, ${keyring.currentPrefix})`

  async function resealEndpoint(scope: WriteScope, row: EndpointSeals): Promise<boolean> {
    const again = (column: 'secret' | 'previous_secret' | 'headers', sealed: string | null) => {
      if (sealed === null || !keyring.needsReseal(sealed)) return sealed
      const context = endpointSealContext(row.id, column)
      return keyring.seal(keyring.open(sealed, context), context)
    }
    // Nobody needs what belongs to a deleted endpoint, or to an overlap that is over. What the log needs lies in retired_secrets.
    const values =
      row.deleted_at !== null
        ? { secret: '', previous_secret: null, headers: null }
        : {
            secret: again('secret', row.secret) as string,
            previous_secret: row.expired === true ? null : again('previous_secret', row.previous_secret),
            headers: again('headers', row.headers),
          }
    // Only where nobody changed them since they were read.
    const done = await scope.queries
      .update(endpoints)
      .set(values)
      .where(
        and(
          eq(endpoints.no, row.no),
          eq(endpoints.secret, row.secret),
          sql`${endpoints.previous_secret} is not distinct from ${row.previous_secret}`,
          sql`${endpoints.headers} is not distinct from ${row.headers}`,
        ),
      )
      .returning({ no: endpoints.no })
    return done.length > 0
  }

  async function resealEndpoints(report: ResealReport, seen: Set<number>): Promise<void> {
    for (let after = 0; ; ) {
      const rows = await store.read((queries) =>
        queries
          .select({
            no: endpoints.no,
            id: endpoints.id,
            secret: endpoints.secret,
            previous_secret: endpoints.previous_secret,
            headers: endpoints.headers,
            deleted_at: endpoints.deleted_at,
            expired: sql<boolean | null>`${endpoints.previous_until} <= ${store.clock}`,
          })
          .from(endpoints)
          .where(sql`${endpoints.no} > ${after} and ${endpoints.secret} <> '' and (${isOther(endpoints.secret)}
            or ${isOther(endpoints.previous_secret)} or ${isOther(endpoints.headers)})`)
          .orderBy(endpoints.no)
          .limit(BATCH),
      )
      if (rows.length === 0) return
      after = rows.at(-1)?.no ?? after
      for (const { no } of rows) seen.add(no)
      await inBatch(rows, report, 'endpoints', resealEndpoint, ({ id }) => ({ endpoint: toPublicId('ep', id) }))
    }
  }

  /** @param seen endpoints that are counted already */
  async function resealRetired(report: ResealReport, seen: Set<number>): Promise<void> {
    let after = { endpoint: 0, number: 0 }
    for (;;) {
      const rows = await store.read((queries) =>
        queries
          .select({ id: endpoints.id, endpoint: retired.endpoint, number: retired.number, sealed: retired.sealed })
          .from(retired)
          .innerJoin(endpoints, eq(endpoints.no, retired.endpoint))
          .where(
            sql`(${retired.endpoint}, ${retired.number}) > (${after.endpoint}, ${after.number}) and ${isOther(retired.sealed)}`,
          )
          .orderBy(retired.endpoint, retired.number)
          .limit(BATCH),
      )
      const last = rows.at(-1)
      if (last === undefined) return
      after = last
      const reseal = async (scope: WriteScope, row: (typeof rows)[number]): Promise<boolean> => {
        const context = endpointSealContext(row.id, 'secret')
        const done = await scope.queries
          .update(retired)
          .set({ sealed: keyring.seal(keyring.open(row.sealed, context), context) })
          .where(
            and(eq(retired.endpoint, row.endpoint), eq(retired.number, row.number), eq(retired.sealed, row.sealed)),
          )
          .returning({ number: retired.number })
        if (done.length === 0 || seen.has(row.endpoint)) return false
        seen.add(row.endpoint)
        return true
      }
      await inBatch(rows, report, 'endpoints', reseal, ({ id }) => ({ endpoint: toPublicId('ep', id) }))
    }
  }

  async function resealAnswers(report: ResealReport): Promise<void> {
    await removeStaleAnswers(store)
    let after = { account: '', key: '' }
    for (;;) {
      const rows = await store.read((queries) =>
        queries
          .select()
          .from(answers)
          .where(sql`(${answers.account}, ${answers.key}) > (${after.account}, ${after.key})
            and (${isOther(answers.fingerprint)} or ${isOther(answers.answer)})`)
          .orderBy(answers.account, answers.key)
          .limit(BATCH),
      )
      const last = rows.at(-1)
      if (last === undefined) return
      after = last
      await inBatch(rows, report, 'keptAnswers', resealAnswer, ({ account }) => ({ kept_answer_of: account }))
    }
  }

  async function resealAnswer(scope: WriteScope, row: typeof answers.$inferSelect): Promise<boolean> {
    const again = (column: 'fingerprint' | 'answer') => {
      const context = keptAnswerSealContext(row.account, row.key, column)
      return keyring.seal(keyring.open(row[column], context), context)
    }
    const done = await scope.queries
      .update(answers)
      .set({ fingerprint: again('fingerprint'), answer: again('answer') })
      .where(
        and(
          eq(answers.account, row.account),
          eq(answers.key, row.key),
          eq(answers.fingerprint, row.fingerprint),
          eq(answers.answer, row.answer),
        ),
      )
      .returning({ key: answers.key })
    return done.length > 0
  }

  async function inBatch<Row>(
    rows: readonly Row[],
    report: ResealReport,
    counted: 'endpoints' | 'keptAnswers',
    reseal: (scope: WriteScope, row: Row) => Promise<boolean>,
    describe: (row: Row) => Record<string, string>,
  ): Promise<void> {
    const done = { [counted]: 0, unreadable: 0 }
    await store.write(async (scope) => {
      // Two calls at once would lock the same rows in each other's way.
      await store.lock(scope, 'reseal')
      for (const row of rows) {
        try {
          if (await reseal(scope, row)) done[counted]!++
        } catch (error) {
          if (!isUnreadable(error)) throw error
          done.unreadable!++
          logger.warn('posthaste: a secret could not be sealed anew', { ...describe(row), ...errorFields(error) })
        }
      }
    })
    report[counted] += done[counted] ?? 0
    report.unreadable += done.unreadable ?? 0
  }

  return {
    async reseal() {
      const report: ResealReport = { endpoints: 0, keptAnswers: 0, unreadable: 0 }
      const seen = new Set<number>()
      await resealEndpoints(report, seen)
      await resealRetired(report, seen)
      await resealAnswers(report)
      logger.info('posthaste: secrets were sealed anew', { ...report })
      return report
    },

    async usage() {
      const rows = await store.read((queries) =>
        queries.execute<{ key: string | null; endpoints: number; kept: number }>(sql`
          select case when x.sealed like 'plain.%' then null else split_part(x.sealed, '.', 2) end key,
            count(distinct x.endpoint)::int endpoints, count(distinct x.answer)::int kept
          from (
            select e.no endpoint, null::text answer, unnest(array[e.secret, e.previous_secret, e.headers]) sealed
            from ${endpoints} e
            union all
            select r.endpoint, null, r.sealed from ${retired} r
            union all
            select null, jsonb_build_array(a.account, a.key)::text, unnest(array[a.fingerprint, a.answer])
            from ${answers} a
          ) x
          where x.sealed <> '' group by 1 order by 1 nulls last`),
      )
      return rows.map(({ key, endpoints, kept }) => ({
        key,
        current: key === keyring.current,
        available: keyring.has(key),
        endpoints,
        keptAnswers: kept,
      }))
    },
  }
}

function isUnreadable(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'SECRET_UNREADABLE'
}
