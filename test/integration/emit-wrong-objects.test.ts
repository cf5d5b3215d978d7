/** What is no transaction does not compile as one, and is refused where nobody compiles. Opens no connection. */
import { createWebhooks, type HostTransaction } from '@posthaste/core'
import { expect, test } from 'vitest'
import { wrongObjects } from '../data-layers/wrong-objects.ts'

const webhooks = createWebhooks({
  database: 'postgres://nobody@127.0.0.1:1/nothing',
  installation: 'test',
  secretStorage: 'plain',
})
const data = { ...webhooks.catalog.definitions['commission.approved'].example }

/** Compiles for what `tx` may be. */
const emit = (tx: HostTransaction) => webhooks.emit('commission.approved', data, { tx })

test.each(Object.entries(wrongObjects(emit)))('%s', async (_name, emitIn) => {
  await expect(emitIn()).rejects.toMatchObject({
    code: 'INVALID_TRANSACTION',
    message: expect.stringMatching(/^emit needs an open transaction as \{ tx \}: .* This is not one: .*\.$/s),
  })
})
