import { generateKeyPairSync } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, expectTypeOf, test } from 'vitest'
import type { affiliateEvents } from '../catalog/affiliate-events.ts'
import {
  type VerificationStep,
  verifyBodySignature,
  verifyWebhook,
  type WebhookEvent,
  WebhookVerificationError,
} from '../receiver.ts'
import { buildBody, createSigner, type Envelope, signatureHeader, standardSignature } from '../signing/sign.ts'
import { generateSecret, standardWebhooksSecret } from '../signing/signing-secret.ts'

const NOW_SECONDS = 1_700_000_000
const now = () => NOW_SECONDS * 1000

const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const jwk = publicKey.export({ format: 'jwk' })

function deliver({
  secrets = ['your_webhook_secret'],
  envelope = 'posthaste' as Envelope,
  sentAt = NOW_SECONDS,
  ed25519 = false,
  dataText = '{"amount":85.5,"affiliate_name":"Zoë 🚀"}',
} = {}) {
  const signers = secrets.map(createSigner)
  const signer = signers[0] ?? createSigner('unused-secret')
  const body = buildBody({ envelope, type: 'commission.approved', occurredAtMs: 1_640_995_200_999, dataText, signer })
  return {
    body,
    headers: {
      'X-Webhook-Signature': signatureHeader(body, signer),
      'X-Webhook-Id': 'evt_1',
      'X-Webhook-Delivery': 'dlv_1',
      'X-Webhook-Attempt': '2',
      'webhook-id': 'evt_1',
      'webhook-timestamp': String(sentAt),
      'webhook-signature': standardSignature('evt_1', sentAt, body, signers, ed25519 ? [privateKey] : []),
    } as Record<string, string>,
  }
}

async function failedStep(verification: Promise<unknown>): Promise<[VerificationStep, string]> {
  try {
    await verification
  } catch (error) {
    if (error instanceof WebhookVerificationError) return [error.step, error.message]
    throw error
  }
  throw new Error('verification passed')
}

const event = {
  event: 'commission.approved',
  timestamp: 1_640_995_200,
  data: { amount: 85.5, affiliate_name: 'Zoë 🚀' },
  id: 'evt_1',
  deliveryId: 'dlv_1',
  attempt: 2,
}

describe.each(['auto', 'standard', 'x-webhook'] as const)('scheme %s', (scheme) => {
  test.each(['your_webhook_secret', generateSecret(), 'pässwörd-🔑'])(
    'accepts ours, in both envelopes: %#',
    async (secret) => {
      for (const envelope of ['posthaste', 'standard'] as const) {
        const { body, headers } = deliver({ secrets: [secret], envelope })
        expect(await verifyWebhook(body, headers, secret, { now, scheme })).toStrictEqual(event)
      }
    },
  )

  test('every form of body and headers', async () => {
    const { body, headers } = deliver()
    const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
    const lists = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]]))
    const exact = body.buffer.slice(body.byteOffset, body.byteOffset + body.length) as ArrayBuffer
    for (const form of [headers, lower, lists, new Headers(headers)]) {
      for (const raw of [body, body.toString('utf8'), new Uint8Array(body), exact]) {
        expect(await verifyWebhook(raw, form, 'your_webhook_secret', { now, scheme })).toStrictEqual(event)
      }
    }
  })

  test('a changed byte, another secret, or a body written again fails at the signature', async () => {
    const { body, headers } = deliver()
    const changed = Buffer.from(body)
    changed[20] = (changed[20] ?? 0) ^ 1
    const options = { now, scheme }
    expect((await failedStep(verifyWebhook(changed, headers, 'your_webhook_secret', options)))[0]).toBe('signature')
    expect((await failedStep(verifyWebhook(body, headers, 'another_secret', options)))[0]).toBe('signature')
    const rewritten = JSON.stringify(JSON.parse(body.toString()), null, 1)
    expect((await failedStep(verifyWebhook(rewritten, headers, 'your_webhook_secret', options)))[0]).toBe('signature')
  })

  test('while a secret changes, either one of the receiver or both will do', async () => {
    const [old, fresh] = ['your_webhook_secret', generateSecret()] as const
    const { body, headers } = deliver({ secrets: [old, fresh] })
    for (const secrets of [old, [fresh, old]]) {
      expect(await verifyWebhook(body, headers, secrets, { now, scheme })).toStrictEqual(event)
    }
    const only = failedStep(verifyWebhook(body, headers, fresh, { now, scheme }))
    // X-Webhook-Signature has room for one: the sender tries the other secret after a 401.
    if (scheme === 'x-webhook') expect((await only)[0]).toBe('signature')
    else await expect(only).rejects.toThrow('verification passed')
  })

  test('no secret, or an empty one, is a configuration to mend', async () => {
    const { body, headers } = deliver()
    for (const secrets of ['', [], [''], ['your_webhook_secret', ''], undefined as unknown as string]) {
      const [step, message] = await failedStep(verifyWebhook(body, headers, secrets, { now, scheme }))
      expect(step).toBe('secret')
      expect(message).toContain('environment variable')
    }
  })
})

describe('standard', () => {
  test.each([-301, 301, 86_400])('a timestamp %i s away is refused', async (offset) => {
    const { body, headers } = deliver({ sentAt: NOW_SECONDS + offset })
    const [step, message] = await failedStep(verifyWebhook(body, headers, 'your_webhook_secret', { now }))
    expect(step).toBe('timestamp')
    expect(message).toContain(`${-offset} s`)
    expect(await verifyWebhook(body, headers, 'your_webhook_secret', { now, toleranceSeconds: 86_400 })).toBeTruthy()
  })

  test.each([-300, 300])('a timestamp %i s away is accepted', async (offset) => {
    const { body, headers } = deliver({ sentAt: NOW_SECONDS + offset })
    expect(await verifyWebhook(body, headers, 'your_webhook_secret', { now })).toStrictEqual(event)
  })

  test('id and timestamp are signed', async () => {
    const { body, headers } = deliver()
    for (const change of [{ 'webhook-id': 'evt_2' }, { 'webhook-timestamp': String(NOW_SECONDS + 1) }]) {
      const verification = verifyWebhook(body, { ...headers, ...change }, 'your_webhook_secret', { now })
      expect((await failedStep(verification))[0]).toBe('signature')
    }
  })

  test('a failing standard signature is not made good by the other header', async () => {
    const { body, headers } = deliver()
    const forged = { ...headers, 'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}` }
    expect((await failedStep(verifyWebhook(body, forged, 'your_webhook_secret', { now })))[0]).toBe('signature')
  })

  test.each(['', 'v1', 'v1,', 'v1,%%%', 'v2,abcd', 'v1a,abcd', ', ,'])(
    'signature header %j is refused, not an accident',
    async (value) => {
      const { body, headers } = deliver()
      const verification = verifyWebhook(body, { ...headers, 'webhook-signature': value }, 'your_webhook_secret', {
        now,
      })
      expect((await failedStep(verification))[0]).toBe('signature')
    },
  )

  test('standard_webhooks_secret verifies like the plain one', async () => {
    const { body, headers } = deliver()
    const secret = standardWebhooksSecret('your_webhook_secret')
    expect(await verifyWebhook(body, headers, secret, { now })).toStrictEqual(event)
  })

  test('a whsec_ secret that is not base64 is named as such', async () => {
    const { body, headers } = deliver()
    const [step, message] = await failedStep(verifyWebhook(body, headers, 'whsec_%%%', { now }))
    expect([step, message.includes('copy it again')]).toStrictEqual(['secret', true])
  })

  test('ed25519: public keys as whpk_, base64 or JWK, without any secret', async () => {
    const { body, headers } = deliver({ secrets: ['sender_only'], ed25519: true })
    const base64 = Buffer.from(jwk.x ?? '', 'base64url').toString('base64')
    for (const key of [`whpk_${base64}`, base64, jwk]) {
      expect(await verifyWebhook(body, headers, [], { now, publicKeys: [key] })).toStrictEqual(event)
    }
    const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
    const [step, message] = await failedStep(verifyWebhook(body, headers, [], { now, publicKeys: [other] }))
    expect([step, message]).toStrictEqual(['signature', expect.stringContaining('jwks.json')])
    expect(await verifyWebhook(body, headers, [], { now, publicKeys: [other, jwk] })).toStrictEqual(event)
    expect((await failedStep(verifyWebhook(body, headers, [], { now, publicKeys: ['whpk_short'] })))[0]).toBe('secret')
  })
})

describe('what is wrong is told', () => {
  test('no signature header at all', async () => {
    const [step, message] = await failedStep(verifyWebhook('{}', {}, 'your_webhook_secret'))
    expect([step, message.includes('proxy')]).toStrictEqual(['headers', true])
  })

  test('one header missing, or X-Webhook-Signature in another form', async () => {
    const { body, headers } = deliver()
    const { 'webhook-timestamp': _left, ...rest } = headers
    expect(await failedStep(verifyWebhook(body, rest, 'your_webhook_secret', { now }))).toStrictEqual([
      'headers',
      expect.stringContaining('webhook-timestamp'),
    ])
    const bare = { 'X-Webhook-Signature': (headers['X-Webhook-Signature'] ?? '').slice('sha256='.length) }
    expect((await failedStep(verifyWebhook(body, bare, 'your_webhook_secret')))[0]).toBe('headers')
  })

  test('a parsed body', async () => {
    const { body, headers } = deliver()
    const parsed = JSON.parse(body.toString())
    const [step, message] = await failedStep(verifyWebhook(parsed, headers, 'your_webhook_secret', { now }))
    expect([step, message.includes('express.raw')]).toStrictEqual(['body', true])
  })

  test('a secret with a line break from a file, without telling the secret', async () => {
    const { body, headers } = deliver()
    const [step, message] = await failedStep(verifyWebhook(body, headers, 'your_webhook_secret\n', { now }))
    expect([step, message.includes('white space'), message.includes('your_webhook')]).toStrictEqual([
      'signature',
      true,
      false,
    ])
  })

  test.each([
    'not json',
    '{}',
    '[]',
    'null',
    '{"event":"a.b","timestamp":"yesterday","data":{}}',
    '{"event":7,"timestamp":7,"data":{}}',
  ])('a signed body that is no event: %s', async (text) => {
    const signature = signatureHeader(Buffer.from(text), createSigner('your_webhook_secret'))
    const verification = verifyWebhook(text, { 'x-webhook-signature': signature }, 'your_webhook_secret')
    expect((await failedStep(verification))[0]).toBe('payload')
  })
})

describe("the body's own signature", () => {
  test.each(['your_webhook_secret', generateSecret()])('is verified by cutting it out: %#', async (secret) => {
    const { body } = deliver({ secrets: [secret] })
    expect(await verifyBodySignature(body, secret)).toBe(true)
    expect(await verifyBodySignature(body.toString('utf8'), ['another_secret', secret])).toBe(true)
    expect(await verifyBodySignature(body, 'another_secret')).toBe(false)
    expect(await verifyBodySignature(body.toString('utf8').replace('85.5', '95.5'), secret)).toBe(false)
    expect(await verifyBodySignature(`${body.toString('utf8')}\n`, secret)).toBe(false)
  })

  test('is false for bodies without one, however short', async () => {
    for (const body of ['', '{}', deliver({ envelope: 'standard' }).body]) {
      expect(await verifyBodySignature(body, 'your_webhook_secret')).toBe(false)
    }
  })

  test('data that looks like a signature changes nothing', async () => {
    const dataText = `{"x":",\\"signature\\":\\"sha256=${'0'.repeat(64)}\\"}","signature":"sha256=${'0'.repeat(64)}"}`
    expect(await verifyBodySignature(deliver({ dataText }).body, 'your_webhook_secret')).toBe(true)
  })
})

describe('as a module', () => {
  test('events are a union that the name narrows', () => {
    const received = { ...event } as unknown as WebhookEvent
    if (received.event === 'commission.approved') {
      expectTypeOf(received.data.approved_date).toEqualTypeOf<string>()
      expectTypeOf(received.data.amount).toEqualTypeOf<number>()
    }
    expectTypeOf<WebhookEvent<typeof affiliateEvents>['event']>()
      .extract<'link.clicked'>()
      .toEqualTypeOf<'link.clicked'>()
    const call = () => verifyWebhook('', {}, '')
    expectTypeOf(call).returns.resolves.toEqualTypeOf<WebhookEvent>()
  })

  test('it imports nothing outside receiver/ at run time, so that edge runtimes can load it', () => {
    const folder = new URL('./', import.meta.url)
    const files = readdirSync(folder).filter((name) => !name.endsWith('.test.ts'))
    const sources = [new URL('../receiver.ts', folder), ...files.map((name) => new URL(name, folder))]
    expect(sources.length).toBeGreaterThan(3)
    for (const source of sources) {
      const imports = readFileSync(source, 'utf8').matchAll(
        /^(?:import|export) (?!type )[^;]*? from '([^']+)'|import\('([^']+)'\)/gm,
      )
      for (const [, from, dynamic] of imports) expect(from ?? dynamic).toMatch(/^\.\/(receiver\/)?[a-z-]+\.ts$/)
    }
  })
})
