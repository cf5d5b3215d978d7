import type { Sql } from '../storage/connection.ts'
import { type DataSubject, isAbout, needleOf } from './data-subject.ts'

/** Events that one statement looks at, and the ids of those that are meant, oldest first. */
const LOOKED_AT_ONCE = 2_000
const FIRST = '00000000-0000-0000-0000-000000000000'

/** The ids of the subject's events, in pages that may be empty. What is committed while it runs may be in it. */
export async function* findEvents(sql: Sql, schema: string, subject: DataSubject): AsyncGenerator<string[]> {
  const s = sql(schema)
  const { account, member, value } = subject
  const needle = value === undefined ? null : needleOf(value)
  let after = FIRST
  for (;;) {
    // Plain LIMIT inside: what a statement looks at is bounded, however few match.
    const rows = await sql`
      with looked as materialized (
        select e.id, e.data from ${s}.events e
        where e.id > ${after}::uuid ${account === undefined ? sql`` : sql`and e.account = ${account}`}
        order by e.id limit ${LOOKED_AT_ONCE})
      select l.id::text, case when ${needle}::text is not null and strpos(l.data, ${needle}::text) > 0 then l.data end "data"
      from looked l order by l.id`
    const last = rows.at(-1)
    if (last === undefined) return
    after = last.id as string
    yield rows
      .filter((row) => member === undefined || (row.data !== null && isAbout(row.data as string, member, value)))
      .map((row) => row.id as string)
    if (rows.length < LOOKED_AT_ONCE) return
  }
}
