/** docs/transactions.md shows every example as it is run here, and grants as they are tested. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createWebhooks, type Webhooks } from '@posthaste/core'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { EXAMPLE_PROGRAMS } from '../data-layers/example-programs.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { grantsToEmit } from '../data-layers/suites/roles.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const guide = readFileSync(join(ROOT, 'docs', 'transactions.md'), 'utf8')
const folder = join(ROOT, 'test', 'data-layers', 'examples')

let host: Host
let webhooks: Webhooks
beforeAll(async () => {
  host = await openHost(inject('postgresAdminUrl'), inject('postgresRunPrefix'))
  webhooks = createWebhooks({ database: host.url, installation: 'test', secretStorage: 'plain' })
  await host.sql`create table commissions (id int primary key, status text not null)`
})
afterAll(async () => {
  await webhooks.stop()
  await host.stop()
})

test('every example has a program, and the guide shows no other', () => {
  const files = readdirSync(folder).map((name) => name.replace('.ts', ''))
  expect(Object.keys(EXAMPLE_PROGRAMS).toSorted()).toEqual(files.toSorted())
  expect([...guide.matchAll(/```ts\n/g)]).toHaveLength(files.length)
})

describe.each(Object.entries(EXAMPLE_PROGRAMS))('%s', (name, open) => {
  test('is in the guide, word for word', () => {
    expect(guide).toContain(`\`\`\`ts\n${readFileSync(join(folder, `${name}.ts`), 'utf8')}\`\`\``)
  })

  test('commits row and event, or neither', async () => {
    await host.sql`delete from commissions`
    await host.sql`insert into commissions values (123, 'pending')`
    const commission = { ...webhooks.catalog.definitions['commission.approved'].example }
    const program = await open(host.url)
    try {
      await program.approve(webhooks, commission)
      await expect(program.approve(webhooks, { ...commission, commission_id: 124 })).rejects.toThrow()
    } finally {
      await program.close()
    }
    expect(await host.sql`select id, status from commissions`).toEqual([{ id: 123, status: 'approved' }])
    const events = await host.sql`select type, data from posthaste.events`
    expect(events).toEqual([{ type: 'commission.approved', data: JSON.stringify(commission) }])
    await host.clear()
  })
})

test('the grants are those that are tested', () => {
  const shown = guide.match(/```sql\n([\s\S]*?)```/)?.[1] ?? ''
  const lines = shown.split('\n').filter((line) => line.startsWith('grant '))
  expect(lines).toEqual(Object.values(grantsToEmit(true)).map((grant) => `grant ${grant} to shop;`))
})
