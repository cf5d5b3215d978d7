/** The answers of keyed POSTs, kept for a day. Fingerprint and answer are sealed text. */
import { and, eq, sql } from './orm.ts'
import type { Queries, Store, WriteScope } from './tables.ts'

/** From the contract. */
export const KEPT_HOURS = 24

/** Each kept answer removes so many that are too old, so that the table stays as large as a day. */
const REMOVED_AT_ONCE = 10

/** What binds a sealed column of a kept answer to its place. */
export function keptAnswerSealContext(account: string, key: string, column: 'answer' | 'fingerprint'): string {
  return `api_idempotency:${JSON.stringify([account, key])}:${column}`
}

export interface KeptAnswer {
  fingerprint: string
  answer: string
}

/** What was kept under the key within the last day. */
export async function findKeptAnswer(
  store: Store,
  queries: Queries,
  account: string,
  key: string,
): Promise<KeptAnswer | null> {
  const { api_idempotency: answers } = store.tables
  const [kept] = await queries
    .select({ fingerprint: answers.fingerprint, answer: answers.answer })
    .from(answers)
    .where(
      and(
        eq(answers.account, account),
        eq(answers.key, key),
        sql`${answers.at} > ${store.clock} - make_interval(hours => ${KEPT_HOURS})`,
      ),
    )
  return kept ?? null
}

/** Keeps an answer; one that is too old makes room for it. */
export async function keepAnswer(
  store: Store,
  scope: WriteScope,
  account: string,
  key: string,
  kept: KeptAnswer,
): Promise<void> {
  const { api_idempotency: answers } = store.tables
  const values = { ...kept, at: store.clock }
  await scope.queries
    .insert(answers)
    .values({ account, key, ...values })
    .onConflictDoUpdate({ target: [answers.account, answers.key], set: values })
  await removeStale(store, scope.queries, REMOVED_AT_ONCE)
}

/** Removes all that are too old, a thousand at a time. */
export async function removeStaleAnswers(store: Store): Promise<void> {
  const most = 1_000
  while ((await store.write((scope) => removeStale(store, scope.queries, most))) === most);
}

/** Answers how many there were. */
async function removeStale(store: Store, queries: Queries, most: number): Promise<number> {
  const { api_idempotency: answers } = store.tables
  const removed = await queries.execute(sql`
    delete from ${answers} where (account, key) in (
      select account, key from ${answers} where at < ${store.clock} - make_interval(hours => ${KEPT_HOURS})
      order by at limit ${most} for update skip locked) returning 1`)
  return removed.length
}
