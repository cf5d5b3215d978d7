/** A receiver that is killed: handles one webhook in a transaction, says so, and never commits. Arguments: database, id. */
import { createInbox } from '@posthaste/core/inbox'
import postgres from 'postgres'

const [url = '', id = ''] = process.argv.slice(2)
const sql = postgres(url, { max: 1, onnotice: () => {} })
await sql.begin((tx) =>
  createInbox({ source: 'shop' }).processOnce(tx, { id }, async () => {
    await tx`insert into orders values (1)`
    console.log('handling')
    await new Promise(() => setInterval(() => {}, 60_000))
  }),
)
