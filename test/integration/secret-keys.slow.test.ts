/** The key of secrets at rest: what lies under it, and its change while everything runs. */
import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import {
  type TestOptions,
  type TestWebhooks,
  type UnderTest,
  underTest,
  uuidOf,
} from '../support/webhooks-under-test.ts'
import { killWorkerProcesses, startWorkerProcess } from '../support/worker-process.ts'

const key = (byte: number) => Buffer.alloc(32, byte).toString('base64')
const [k1, k2, k3] = [key(1), key(2), key(3)]
const OLD = { current: 'k1', keys: { k1 } }
const KNOWS_BOTH = { current: 'k1', keys: { k1, k2 } }
const SEALS_NEW = { current: 'k2', keys: { k1, k2 } }
const NEW = { current: 'k2', keys: { k2 } }

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

let host: UnderTest
let path: string
const begin = async (options: TestOptions) => {
  host = await underTest(options)
  path = `/${host.database.name}`
}
afterEach(async () => {
  await killWorkerProcesses()
  await host.stop()
})

const HEADERS = { 'X-Key': 'the value of a header' }

async function keyedCreate(webhooks: TestWebhooks, idempotencyKey: string) {
  const request = new Request('http://localhost/hooks/', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
    body: JSON.stringify({ url: receiver.url('/never'), events: ['*'] }),
  })
  const authorize = () => ({ permissions: ['write' as const] })
  const response = await webhooks.handler(request, { mountPath: '/hooks', frameworkRequest: null, authorize })
  return {
    status: response.status,
    replayed: response.headers.get('idempotency-replayed'),
    body: await response.json(),
  }
}

/** Everything sealed, by where it lies. */
async function sealed(): Promise<string[]> {
  const rows = await host.sql`select unnest(array[secret, previous_secret, headers]) sealed from posthaste.endpoints
    union all select sealed from posthaste.retired_secrets
    union all select unnest(array[fingerprint, answer]) from posthaste.api_idempotency`
  return rows.map((row) => (row.sealed as string | null) ?? '').filter((text) => text !== '')
}

describe('sealing anew', () => {
  beforeEach(() => begin({ secretKeys: OLD }))

  test('takes over secrets, old secrets, headers and kept answers, and after it the old key is not needed', async () => {
    const { id, secret } = await host.endpoint(receiver.url(path), { headers: HEADERS })
    const rotated = await host.webhooks.endpoints.rotateSecret('default', id)
    const kept = await keyedCreate(host.webhooks, 'create-1')
    expect(await host.webhooks.secretKeys.usage()).toEqual([
      { key: 'k1', current: true, available: true, endpoints: 2, keptAnswers: 1 },
    ])

    const changing = host.another({ secretKeys: SEALS_NEW })
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 2, keptAnswers: 1, unreadable: 0 })
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 0, keptAnswers: 0, unreadable: 0 })
    for (const text of await sealed()) expect(text).toMatch(/^v1\.k2\./)
    expect(await changing.secretKeys.usage()).toEqual([
      { key: 'k2', current: true, available: true, endpoints: 2, keptAnswers: 1 },
    ])

    const after = host.another({ secretKeys: NEW })
    expect((await after.endpoints.revealSecret('default', id)).secret).toBe(rotated.secret)
    expect(await keyedCreate(after, 'create-1')).toEqual({ ...kept, replayed: 'true' })
    await after.start()
    await host.emit(1)
    const [request] = (await receiver.received(path, 1)) as [ReceivedRequest]
    expect(request.headers['x-key']).toBe(HEADERS['X-Key'])
    expect(signedBy(request, secret)).toBe(true)
  })

  test('changes neither version nor time of change', async () => {
    const { id } = await host.endpoint(receiver.url(path))
    const before = await host.sql`select version, updated_at::text from posthaste.endpoints where id = ${uuidOf(id)}`
    await host.another({ secretKeys: SEALS_NEW }).secretKeys.reseal()
    const after = await host.sql`select version, updated_at::text from posthaste.endpoints where id = ${uuidOf(id)}`
    expect([...after]).toEqual([...before])
  })

  test('forgets what nobody needs: an old secret after its overlap, an answer after its day', async () => {
    const { id } = await host.endpoint(receiver.url(path))
    await host.webhooks.endpoints.rotateSecret('default', id, { overlap_seconds: 60 })
    await keyedCreate(host.webhooks, 'create-1')
    await host.moveTime(25 * 3_600_000)
    const report = await host.another({ secretKeys: SEALS_NEW }).secretKeys.reseal()
    expect(report).toEqual({ endpoints: 2, keptAnswers: 0, unreadable: 0 })
    expect(await host.sql`select * from posthaste.api_idempotency`).toHaveLength(0)
    expect(await host.sql`select * from posthaste.endpoints where previous_secret is not null`).toHaveLength(0)
  })

  test('of a deleted endpoint nothing is left but what its log was signed with, and that is sealed anew too', async () => {
    const { id } = await host.endpoint(receiver.url(path), { headers: HEADERS })
    await host.webhooks.endpoints.rotateSecret('default', id)
    await host.webhooks.endpoints.remove('default', id)
    const use = { available: true, endpoints: 1, keptAnswers: 0 }
    expect(await sealed()).toHaveLength(2)
    expect(await host.webhooks.secretKeys.usage()).toEqual([{ key: 'k1', current: true, ...use }])
    const changing = host.another({ secretKeys: SEALS_NEW })
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 1, keptAnswers: 0, unreadable: 0 })
    expect(await changing.secretKeys.usage()).toEqual([{ key: 'k2', current: true, ...use }])
    await host.sql`delete from posthaste.retired_secrets`
    expect(await changing.secretKeys.usage()).toEqual([])
    // What an earlier version left.
    await host.sql`update posthaste.endpoints set secret = 'v1.k0.AAAA', headers = 'v1.k0.AAAA'`
    expect(await host.webhooks.secretKeys.reseal()).toEqual({ endpoints: 1, keptAnswers: 0, unreadable: 0 })
    expect(await sealed()).toEqual([])
  })

  test('leaves what it cannot open, says so, and goes on with the rest', async () => {
    const whole = await host.endpoint(receiver.url(path))
    const damaged = await host.endpoint(receiver.url(path))
    const foreign = await host.endpoint(receiver.url(path))
    await host.sql`update posthaste.endpoints set secret = left(secret, -4) || 'AAAA' where id = ${uuidOf(damaged.id)}`
    const elsewhere = host.another({ secretKeys: { current: 'k3', keys: { k3 } } })
    await host.sql`update posthaste.endpoints set secret = replace(secret, 'v1.k1.', 'v1.k3.') where id = ${uuidOf(foreign.id)}`
    const changing = host.another({ secretKeys: SEALS_NEW })
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 1, keptAnswers: 0, unreadable: 2 })
    expect(await changing.secretKeys.usage()).toEqual([
      { key: 'k1', current: false, available: true, endpoints: 1, keptAnswers: 0 },
      { key: 'k2', current: true, available: true, endpoints: 1, keptAnswers: 0 },
      { key: 'k3', current: false, available: false, endpoints: 1, keptAnswers: 0 },
    ])
    expect((await elsewhere.secretKeys.usage()).map(({ available }) => available)).toEqual([false, false, true])
    for (const { id } of [damaged, foreign]) expect(host.log.join('\n')).toContain(id)
    expect(host.log.join('\n')).not.toContain(whole.id)
    expect((await changing.endpoints.revealSecret('default', whole.id)).secret).toBe(whole.secret)
  })

  test('from plain storage to encryption', async () => {
    await host.stop()
    await begin({ secretKeys: undefined, secretStorage: 'plain' } as unknown as TestOptions)
    const { id, secret } = await host.endpoint(receiver.url(path), { headers: HEADERS })
    const kept = await keyedCreate(host.webhooks, 'create-1')
    expect(await sealed()).toContain(`plain.${secret}`)
    expect(await host.webhooks.secretKeys.usage()).toEqual([
      { key: null, current: true, available: true, endpoints: 2, keptAnswers: 1 },
    ])
    const encrypted = (secretKeys: object) =>
      host.another({ secretStorage: 'encrypted', secretKeys } as unknown as TestOptions)
    const changing = encrypted({ ...NEW, acceptPlain: true })
    // Before: both kinds are read, and what is written is encrypted.
    expect((await changing.endpoints.revealSecret('default', id)).secret).toBe(secret)
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 2, keptAnswers: 1, unreadable: 0 })
    for (const text of await sealed()) expect(text).toMatch(/^v1\.k2\./)
    const after = encrypted(NEW)
    expect((await after.endpoints.revealSecret('default', id)).secret).toBe(secret)
    expect(await keyedCreate(after, 'create-1')).toMatchObject({ replayed: 'true', body: kept.body })
  })

  test('several calls at once, beside rotations by processes old and new, lose no secret', async () => {
    const endpoints = await Promise.all(Array.from({ length: 120 }, () => host.endpoint(receiver.url(path))))
    const known = new Map(endpoints.map(({ id, secret }) => [id, secret]))
    const changing = host.another({ secretKeys: SEALS_NEW })
    const prepared = host.another({ secretKeys: KNOWS_BOTH })
    let over = false
    const rotate = async (webhooks: TestWebhooks, of: number) => {
      for (let n = of; !over; n += 2) {
        const { id } = endpoints[n % endpoints.length]!
        const overlap = { overlap_seconds: n % 2 === 0 ? 0 : 3_600 }
        known.set(id, (await webhooks.endpoints.rotateSecret('default', id, overlap)).secret)
      }
    }
    const rotating = [rotate(changing, 0), rotate(prepared, 1)]
    const reports = await Promise.all([changing, changing, changing].map((one) => one.secretKeys.reseal()))
    over = true
    await Promise.all(rotating)
    expect(reports.reduce((sum, { unreadable }) => sum + unreadable, 0)).toBe(0)
    // What the old process wrote meanwhile is the next call's.
    await changing.secretKeys.reseal()
    expect((await changing.secretKeys.usage()).map((use) => use.key)).toEqual(['k2'])
    const after = host.another({ secretKeys: NEW })
    for (const [id, secret] of known) expect((await after.endpoints.revealSecret('default', id)).secret).toBe(secret)
  }, 60_000)
})

describe('beside running workers', () => {
  const signed: boolean[] = []
  beforeEach(() => begin({ secretKeys: OLD }))

  test('a whole change of the key, process by process, under load: each event once, nothing fails', async () => {
    const secrets = new Map<string, string>()
    for (const name of ['a', 'b', 'c']) {
      const { secret } = await host.endpoint(receiver.url(`${path}/${name}`))
      secrets.set(`${path}/${name}`, secret)
      receiver.answer(`${path}/${name}`, (request) => {
        signed.push(signedBy(request, secrets.get(request.path) ?? ''))
        return 200
      })
    }
    let emitted = 0
    let over = false
    const load = (async () => {
      while (!over) await host.emit(++emitted)
    })()
    const received = () => receiver.requests(`${path}/a`).length
    const some = async () => {
      const before = received()
      await until('deliveries to go on', () => received() > before + 20, 30_000)
    }
    const step = async (secretKeys: TestOptions['secretKeys']) => {
      const worker = await startWorkerProcess(host.database.url, { secretKeys } as TestOptions)
      await worker.order({ do: 'start' }, 20_000)
      return worker
    }
    const replace = async (old: Awaited<ReturnType<typeof step>>, secretKeys: TestOptions['secretKeys']) => {
      const worker = await step(secretKeys)
      await some()
      await old.order({ do: 'stop' }, 30_000)
      await some()
      return worker
    }
    const first = await step(OLD)
    await some()
    const second = await replace(first, KNOWS_BOTH)
    const third = await replace(second, SEALS_NEW)
    const changing = host.another({ secretKeys: SEALS_NEW })
    expect(await changing.secretKeys.reseal()).toEqual({ endpoints: 3, keptAnswers: 0, unreadable: 0 })
    await some()
    const last = await replace(third, NEW)
    over = true
    await load
    await host.settled(30_000)
    for (const of of secrets.keys()) {
      const numbers = receiver.requests(of).map(({ data }) => data.n as number)
      expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: emitted }, (_, index) => index + 1))
    }
    expect(signed).not.toContain(false)
    expect(await host.sql`select * from posthaste.attempts where outcome <> 1`).toHaveLength(0)
    expect(last.unhandled).toEqual([])
  }, 120_000)

  test('an old process that knows only the old key goes on with what it has, and where it cannot, waits', async () => {
    const old = await startWorkerProcess(host.database.url, { secretKeys: OLD } as TestOptions)
    await old.order({ do: 'start' }, 20_000)
    const { id, secret } = await host.endpoint(receiver.url(path))
    await host.emit(1)
    await receiver.received(path, 1)
    const changing = host.another({ secretKeys: SEALS_NEW })
    await changing.secretKeys.reseal()
    receiver.answer(path, 'hang')
    await host.emit(2)
    // It has the configuration in memory, and nothing in it has changed.
    await receiver.received(path, 2)
    // Now it has to read it anew; what is under way ends as it would.
    await changing.endpoints.update('default', id, { description: 'changed' })
    await until('it to be read', () => old.unreadable().includes(id))
    await host.emit(3)
    receiver.answer(path, 200)
    receiver.release(200, path)
    await until('it to wait', async () => (await backlogReasons()).includes('unreadable'))
    const { data } = await changing.deliveries.list('default', id)
    await changing.deliveries.retry('default', data.at(-1)!.id)
    await host.dispatched()
    expect(receiver.requests(path)).toHaveLength(2)
    await changing.start()
    await old.order({ do: 'stop' }, 30_000)
    const requests = await receiver.received(path, 4, 30_000)
    const seen = requests.map((request) => [request.data.n, request.attempt, signedBy(request, secret)].join())
    // The retry that somebody asked for waited, too.
    expect(seen.toSorted()).toEqual(['1,1,true', '1,2,true', '2,1,true', '3,1,true'])
    expect(await host.sql`select * from posthaste.attempts where outcome <> 1`).toHaveLength(0)
  }, 60_000)
})

describe('without the key', () => {
  beforeEach(() => begin({ secretKeys: OLD }))

  test('deliveries wait, visibly, none fails; other endpoints are served; with the key they go on', async () => {
    const { id, secret } = await host.endpoint(receiver.url(path), { ordering: 'fifo' })
    const blind = host.another({ secretKeys: { current: 'k3', keys: { k3 } } })
    const heard: string[] = []
    blind.events.on('endpoint.unreadable', ({ account, endpointId }) => heard.push(`${account} ${endpointId}`))
    await blind.start()
    await blind.endpoints.create('default', { url: receiver.url(`${path}/seen`), events: ['test.happened'] })
    await host.emit(1, 2, 3)
    await receiver.received(`${path}/seen`, 3)
    await until('it to be noted', async () => (await backlogReasons()).includes('unreadable'))
    // It reads it again, now and every half minute, and says it once.
    await blind.endpoints.update('default', id, { description: 'still unreadable' })
    await host.dispatched()
    expect(heard).toEqual([`default ${id}`])
    expect(host.log.filter((line) => line.includes('is paused'))).toEqual([
      expect.stringMatching(new RegExp(`${id}.*k1.*is not in the keyring`)),
    ])
    expect((await blind.secretKeys.usage())[0]).toMatchObject({ key: 'k1', available: false, endpoints: 1 })
    const [waiting] = (await blind.deliveries.list('default', id)).data
    expect(waiting?.status).toBe('pending')
    await expect(blind.deliveries.sendTest('default', id)).rejects.toMatchObject({ code: 'SECRET_UNREADABLE' })
    // What somebody asks for meanwhile is done when it can be.
    await blind.deliveries.retry('default', waiting!.id)
    await host.dispatched()
    expect(receiver.requests(path)).toEqual([])

    await blind.stop()
    await host.another({ secretKeys: { current: 'k3', keys: { k1, k3 } } }).start()
    const requests = await receiver.received(path, 3)
    await host.settled()
    expect(requests.every((request) => signedBy(request, secret))).toBe(true)
    expect(await host.sql`select * from posthaste.attempts where outcome <> 1`).toHaveLength(0)
    expect(receiver.requests(path).map(({ attempt }) => attempt)).toEqual([1, 1, 1])
  }, 60_000)

  test('what a deleted endpoint left behind goes away all the same', async () => {
    const { id } = await host.endpoint(receiver.url(path))
    const blind = host.another({ secretKeys: { current: 'k3', keys: { k3 } } })
    await blind.start()
    await host.emit(1)
    await until('it to be noted', async () => (await backlogReasons()).includes('unreadable'))
    await blind.endpoints.remove('default', id)
    await until('it to be forgotten', async () => (await backlogReasons()).length === 0)
    expect((await blind.deliveries.list('default', id)).data[0]?.status).toBe('cancelled')
  }, 60_000)
})

async function backlogReasons(): Promise<string[]> {
  return (await host.sql`select reason from posthaste.backlogs`).map((row) => row.reason as string)
}

function signedBy(request: ReceivedRequest, secret: string): boolean {
  const hmac = createHmac('sha256', secret).update(request.body).digest('hex')
  return request.headers['x-webhook-signature'] === `sha256=${hmac}`
}
