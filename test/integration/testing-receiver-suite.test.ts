/** The receiver suite: right receivers pass, and every case is failed by a receiver with the fault that it is there for. */
import { createHmac } from 'node:crypto'
import { once as onceEmitted } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { verifyWebhook } from '@posthaste/core/receiver'
import { checkReceiver, type ReceiverOptions, receiverCases, signWebhook } from '@posthaste/core/testing'
import { afterEach, describe, expect, test } from 'vitest'

const SECRET = 'your_webhook_secret'

interface Received {
  body: Buffer
  headers: IncomingHttpHeaders
}

/** What a receiver does with a request; the status that it answers. */
type Behaviour = (received: Received, handle: () => void) => number | Promise<number>

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function start(behaviour: Behaviour): Promise<{ url: string; handled(): number }> {
  let handled = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const received = { body: Buffer.concat(chunks), headers: request.headers }
      void Promise.resolve(behaviour(received, () => void handled++)).then((status) => response.writeHead(status).end())
    })
  }).listen(0, '127.0.0.1')
  await onceEmitted(server, 'listening')
  servers.push(server)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, handled: () => handled }
}

/** As docs/testing.md and the receiver's entry say. `faults` is what is wrong with it. */
function receiver(faults: Partial<Record<string, boolean>> = {}): Behaviour {
  const seen = new Set<string>()
  const once = (id: string, handle: () => void) => {
    if (!seen.has(id)) handle()
    seen.add(id)
  }
  return async ({ body, headers }, handle) => {
    if (faults.slow) await sleep(300)
    const scheme = { scheme: 'standard', ...(faults.anyTime ? { toleranceSeconds: 1e9 } : {}) } as const
    let checked: Buffer | string = body
    if (faults.latin1) checked = Buffer.from(body.toString('latin1').replaceAll(/[^\0-\x7f]/g, '?'), 'latin1')
    if (faults.rebuilds) checked = body.toString('utf8').replace('"tampered":true,', '')
    let given: IncomingHttpHeaders = headers
    if (faults.firstSignature) {
      given = { ...headers, 'webhook-signature': String(headers['webhook-signature']).split(' ')[0] }
    }
    if (faults.unsignedTime) given = { ...given, 'webhook-timestamp': 'whatever it says' }
    try {
      if (faults.trustsAll) {
        once(String(headers['webhook-id']), handle)
        return 200
      }
      if (faults.trustsUnsigned && headers['webhook-signature'] === undefined) return 200
      if (faults.unsignedTime) return verifyWithoutTime(body, headers) ? 200 : 401
      const { event, id } = await verifyWebhook(checked, given as Record<string, string>, SECRET, scheme)
      if (faults.closedList && (event as string) === 'something.unheard_of') return 422
      if (faults.forgetful) handle()
      else once(id ?? '', handle)
      return 204
    } catch {
      return faults.wrongStatus ? 500 : 401
    }
  }
}

/** Signs nothing but the body, and believes the time that stands beside it. */
function verifyWithoutTime(body: Buffer, headers: IncomingHttpHeaders): boolean {
  const at = Number(headers['webhook-timestamp'])
  if (Math.abs(Date.now() / 1000 - at) > 300) return false
  return headers['x-webhook-signature'] === `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`
}

const failed = async (behaviour: Behaviour, options: Partial<ReceiverOptions> = {}) => {
  const { url, handled } = await start(behaviour)
  const report = await checkReceiver({ url, secret: SECRET, handled, ...options })
  expect(report.results.map(({ name }) => name)).toEqual(receiverCases.map(({ name }) => name))
  return report.results.filter(({ outcome }) => outcome === 'failed').map(({ name }) => name)
}

describe('a receiver that does as it should', () => {
  test('passes, with either form of secret', async () => {
    expect(await failed(receiver())).toEqual([])
    const { url } = await start(receiver())
    const report = await checkReceiver({
      url,
      secret: `whsec_${Buffer.from(SECRET.padEnd(24, '!')).toString('base64')}`,
    })
    expect(report.passed).toBe(false)
    expect(String(report)).toMatch(/^✗ accepts a signed event \(\d+ ms\): it answered 401 .*\n/)
  })

  test('passes with X-Webhook-Signature alone; what needs a signed time is skipped, and said so', async () => {
    const page: Behaviour = ({ body, headers }) =>
      headers['x-webhook-signature'] === `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}` ? 200 : 401
    const { url } = await start(page)
    const report = await checkReceiver({ url, secret: SECRET, scheme: 'x-webhook' })
    expect(report.passed).toBe(true)
    expect(report.results.filter(({ outcome }) => outcome === 'skipped').map(({ detail }) => detail)).toEqual([
      expect.stringContaining('does not sign the time'),
      expect.stringContaining('does not sign the time'),
    ])
  })
})

describe('a receiver with a fault is told by the case that is there for it', () => {
  test.each<[string, string[], Behaviour, Partial<ReceiverOptions>?]>([
    ['refuses everything', receiverCases.slice(0, 6).map(({ name }) => name), () => 401],
    ['verifies nothing', receiverCases.slice(6).map(({ name }) => name), receiver({ trustsAll: true })],
    ['reads text as another encoding', ['accepts text of every script'], receiver({ latin1: true })],
    ['knows a closed list of events', ['accepts an event type that it does not know'], receiver({ closedList: true })],
    [
      'looks at the first signature only',
      ['accepts both secrets while they change'],
      receiver({ firstSignature: true }),
    ],
    ['acts upon repetitions', ['accepts a delivery again, and acts upon it once'], receiver({ forgetful: true })],
    ['works before it answers', ['answers quickly'], receiver({ slow: true }), { withinMs: 250 }],
    [
      'verifies what it has written again, of the members that it knows',
      ['refuses a tampered body'],
      receiver({ rebuilds: true }),
    ],
    ['takes what is not signed', ['refuses a request without a signature'], receiver({ trustsUnsigned: true })],
    ['ignores the time', ['refuses a request that was signed an hour ago'], receiver({ anyTime: true })],
    [
      'believes a time that nobody signed',
      ['refuses a recorded request under a new time', 'accepts a delivery again, and acts upon it once'],
      receiver({ unsignedTime: true }),
    ],
    ['refuses with 500', receiverCases.slice(6).map(({ name }) => name), receiver({ wrongStatus: true })],
  ])('%s', async (_name, cases, behaviour, options) => {
    expect((await failed(behaviour, options)).toSorted()).toEqual(cases.toSorted())
  })

  test('knows two secrets, one of them the attacker’s', async () => {
    const twice: Behaviour = async ({ body, headers }, handle) => {
      const secrets = [SECRET, `not-${SECRET.length}-the-secret-of-this-receiver`]
      try {
        const { id } = await verifyWebhook(body, headers as Record<string, string>, secrets)
        if (!known.has(id ?? '')) handle()
        known.add(id ?? '')
        return 200
      } catch {
        return 403
      }
    }
    const known = new Set<string>()
    // Without the standard header it falls back to the other scheme, which is not what this is about.
    expect(await failed(twice)).toEqual(['refuses the signature of another secret'])
  })

  test('that cannot be reached, or never answers, fails everywhere', async () => {
    const { results } = await checkReceiver({ url: 'http://127.0.0.1:1/', secret: SECRET })
    expect(new Set(results.map(({ outcome }) => outcome))).toEqual(new Set(['failed']))
  })
})

test('signWebhook makes what it says', async () => {
  const options = { secret: SECRET, event: 'commission.approved', data: { amount: 85.5 } }
  const { body, headers } = signWebhook(options)
  expect(await verifyWebhook(body, headers, SECRET)).toMatchObject({
    event: 'commission.approved',
    data: { amount: 85.5 },
  })
  for (const fault of ['tampered', 'expired', 'replayed', 'wrong_secret', 'unsigned'] as const) {
    const bad = signWebhook({ ...options, fault })
    expect(() => JSON.parse(bad.body)).not.toThrow()
    await expect(verifyWebhook(bad.body, bad.headers, SECRET, { scheme: 'standard' }), fault).rejects.toThrow()
  }
  for (const data of [[1], 'text', 7]) {
    const bad = signWebhook({ ...options, data, fault: 'tampered' })
    await expect(verifyWebhook(bad.body, bad.headers, SECRET)).rejects.toThrow('signature')
  }
  const rotated = signWebhook({ ...options, previousSecret: 'the_old_secret' })
  for (const secret of [SECRET, 'the_old_secret']) {
    await expect(verifyWebhook(rotated.body, rotated.headers, secret)).resolves.toBeTruthy()
  }
  expect(rotated.headers['webhook-signature']?.split(' ')).toHaveLength(2)
  await expect(
    verifyWebhook(rotated.body, rotated.headers, 'the_old_secret', { scheme: 'x-webhook' }),
  ).resolves.toBeTruthy()
  const accepted = signWebhook({ ...options, previousSecret: 'the_old_secret', currentAccepted: true })
  await expect(verifyWebhook(accepted.body, accepted.headers, SECRET, { scheme: 'x-webhook' })).resolves.toBeTruthy()
  const standard = signWebhook({ ...options, envelope: 'standard', id: 'msg_1' })
  expect(JSON.parse(standard.body)).toMatchObject({ type: 'commission.approved' })
  expect(await verifyWebhook(standard.body, standard.headers, SECRET)).toMatchObject({ id: 'msg_1' })
})
