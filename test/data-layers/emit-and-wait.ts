/**
 * A host process: opens a transaction in every data layer, writes a row and emits in each, says so, and waits to be killed.
 * Arguments: the database's URL.
 */
import { createWebhooks } from '@posthaste/core'
import { type testEvents, withTestOptions } from '../support/webhooks-under-test.ts'
import { DATA_LAYERS } from './layers/index.ts'

const url = process.argv[2] as string
const webhooks = createWebhooks<typeof testEvents>(withTestOptions(url))
const never = new Promise<never>(() => {})
let n = 0
const emitted = await Promise.all(
  DATA_LAYERS.map(async ({ open }) => {
    const layer = await open(url, 2)
    const own = ++n
    return await new Promise<void>((resolve, reject) => {
      layer
        .transaction(async (scope) => {
          await scope.execute(`insert into orders values (${own})`)
          await webhooks.emit('test.happened', { n: own }, { tx: scope.tx })
          await webhooks.emitMany([{ type: 'test.happened', data: { n: own } }], { tx: scope.tx })
          resolve()
          await never
        })
        .catch(reject)
    })
  }),
)
process.stdout.write(`emitted in ${emitted.length}\n`)
setInterval(() => {}, 60_000)
