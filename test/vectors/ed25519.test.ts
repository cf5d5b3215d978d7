import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { verifyWebhook } from '../../packages/core/src/receiver.ts'
import { importEd25519Keys } from '../../packages/core/src/signing/ed25519-keys.ts'
import { createSigner, standardSignature } from '../../packages/core/src/signing/sign.ts'
import { standardWebhooksSecret } from '../../packages/core/src/signing/signing-secret.ts'

interface Vector {
  name: string
  secrets: string[]
  keys: { private_key: string; pem: string; public_key: string; x: string; kid: string }[]
  id: string
  attempt_timestamp: number
  body: string
  webhook_signature: string
}

const { vectors } = JSON.parse(readFileSync(new URL('./ed25519.json', import.meta.url), 'utf8')) as {
  vectors: Vector[]
}

test('there are vectors', () => {
  expect(vectors.length).toBeGreaterThanOrEqual(4)
})

describe.each(vectors)('$name', ({ secrets, keys, id, attempt_timestamp: seconds, body, webhook_signature }) => {
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': webhook_signature }
  const now = () => seconds * 1000

  test.each(['private_key', 'pem'] as const)('the signatures that we send, with keys from %s', (form) => {
    const { sign } = importEd25519Keys({ privateKeys: keys.map((key) => key[form]) })
    const signers = secrets.map(createSigner)
    expect(standardSignature(id, seconds, Buffer.from(body), signers, sign)).toBe(webhook_signature)
  })

  test('the keys that we publish', () => {
    const { jwks } = importEd25519Keys({ privateKeys: keys.map((key) => key.private_key) })
    expect(jwks.keys).toMatchObject(keys.map(({ x, kid }) => ({ x, kid })))
  })

  test('our receiver kit accepts them with the public key alone, in each form', async () => {
    for (const { public_key, x } of keys) {
      for (const key of [public_key, { kty: 'OKP', crv: 'Ed25519', x }]) {
        expect(await verifyWebhook(body, headers, [], { now, publicKeys: [key] })).toMatchObject({ id })
      }
      const forged = verifyWebhook(`${body} `, headers, [], { now, publicKeys: [public_key] })
      await expect(forged).rejects.toMatchObject({ step: 'signature' })
    }
  })

  test('libraries that know v1 alone pass over v1a', () => {
    for (const secret of secrets) {
      // The package reads the machine's clock, so the timestamp is checked apart: what is left is the signature.
      const signed = new Webhook(standardWebhooksSecret(secret)).sign(id, new Date(seconds * 1000), body)
      expect(webhook_signature.split(' ')).toContain(signed)
    }
    const at = new Date()
    const later = Math.floor(at.getTime() / 1000)
    const { sign } = importEd25519Keys({ privateKeys: keys.map((key) => key.private_key) })
    const mixed = standardSignature(id, later, Buffer.from(body), secrets.map(createSigner), sign)
    const reversed = mixed.split(' ').toReversed().join(' ')
    for (const signature of [mixed, reversed]) {
      const fresh = { ...headers, 'webhook-timestamp': String(later), 'webhook-signature': signature }
      expect(new Webhook(standardWebhooksSecret(secrets[0]!)).verify(body, fresh)).toEqual(JSON.parse(body))
    }
  })
})

test('the example that the server behind Standard Webhooks tests itself with', async () => {
  const privateKey = 'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=='
  const expected = 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=='
  const { sign } = importEd25519Keys({ privateKeys: [privateKey] })
  const body = Buffer.from('{"test": 2432232314}')
  expect(standardSignature('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, body, [], sign)).toBe(expected)
})
