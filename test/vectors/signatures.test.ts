import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { verifyBodySignature, verifyWebhook } from '../../packages/core/src/receiver.ts'
import {
  buildBody,
  createSigner,
  type Envelope,
  signatureHeader,
  standardSignature,
} from '../../packages/core/src/signing/sign.ts'
import { standardWebhooksSecret, validateSecret } from '../../packages/core/src/signing/signing-secret.ts'

interface Vector {
  name: string
  envelope: Envelope
  secrets: string[]
  type: string
  occurred_at_ms: number
  data_text: string
  id: string
  attempt_timestamp: number
  body: string
  x_webhook_signature: string
  webhook_signature: string
  standard_webhooks_secrets: string[]
}

const { vectors } = JSON.parse(readFileSync(new URL('./signatures.json', import.meta.url), 'utf8')) as {
  vectors: Vector[]
}

test('there are vectors', () => {
  expect(vectors.length).toBeGreaterThanOrEqual(10)
})

describe.each(vectors)('$name', (vector) => {
  const signers = vector.secrets.map(createSigner)
  const body = buildBody({
    envelope: vector.envelope,
    type: vector.type,
    occurredAtMs: vector.occurred_at_ms,
    dataText: vector.data_text,
    signer: signers[0] as (typeof signers)[number],
  })
  const headers = {
    'X-Webhook-Signature': vector.x_webhook_signature,
    'webhook-id': vector.id,
    'webhook-timestamp': String(vector.attempt_timestamp),
    'webhook-signature': vector.webhook_signature,
  }
  const now = () => vector.attempt_timestamp * 1000

  test('the bytes that we send', () => {
    for (const secret of vector.secrets) validateSecret(secret)
    expect(body.toString('utf8')).toBe(vector.body)
    expect(body.equals(Buffer.from(vector.body, 'utf8'))).toBe(true)
  })

  test('the signatures that we send', () => {
    expect(signatureHeader(body, signers[0] as (typeof signers)[number])).toBe(vector.x_webhook_signature)
    expect(standardSignature(vector.id, vector.attempt_timestamp, body, signers)).toBe(vector.webhook_signature)
    expect(vector.secrets.map(standardWebhooksSecret)).toStrictEqual(vector.standard_webhooks_secrets)
  })

  test('our receiver kit accepts them', async () => {
    const first = vector.secrets[0] as string
    for (const secret of vector.secrets) {
      const options = { now, scheme: 'standard' } as const
      expect(await verifyWebhook(vector.body, headers, secret, options)).toMatchObject({
        event: vector.type,
        id: vector.id,
      })
    }
    expect(await verifyWebhook(vector.body, headers, first, { scheme: 'x-webhook' })).toMatchObject({
      event: vector.type,
    })
    expect(await verifyBodySignature(vector.body, first)).toBe(vector.envelope === 'posthaste')
  })

  test('the standardwebhooks package makes the same', () => {
    const made = vector.standard_webhooks_secrets.map((secret) =>
      new Webhook(secret).sign(vector.id, new Date(vector.attempt_timestamp * 1000), vector.body),
    )
    expect(made.join(' ')).toBe(vector.webhook_signature)
  })
})

test("the example that Standard Webhooks' documentation and libraries share", () => {
  const signer = createSigner('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')
  const body = Buffer.from('{"test": 2432232314}')
  expect(standardSignature('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, body, [signer])).toBe(
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  )
})
