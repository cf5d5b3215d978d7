import { createHmac, generateKeyPairSync, verify } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { buildBody, createSigner, signatureHeader, standardSignature } from './sign.ts'
import { generateSecret, standardWebhooksSecret } from './signing-secret.ts'

const plain = createSigner('your_webhook_secret')
const parts = {
  type: 'commission.approved',
  occurredAtMs: 1640995200999,
  dataText: '{"amount":85.5,"name":"Zoë 🚀"}',
  signer: plain,
}
const hex = (text: string) => createHmac('sha256', 'your_webhook_secret').update(text, 'utf8').digest('hex')

describe('bodies', () => {
  test('posthaste: four members in order, the signature over the body without it', () => {
    const unsigned = '{"event":"commission.approved","timestamp":1640995200,"data":{"amount":85.5,"name":"Zoë 🚀"}}'
    const body = buildBody({ ...parts, envelope: 'posthaste' })
    expect(body.toString('utf8')).toBe(`${unsigned.slice(0, -1)},"signature":"sha256=${hex(unsigned)}"}`)
    expect(signatureHeader(body, plain)).toBe(`sha256=${hex(body.toString('utf8'))}`)
  })

  test('standard: no signature, RFC 3339 timestamp', () => {
    expect(buildBody({ ...parts, envelope: 'standard' }).toString('utf8')).toBe(
      '{"type":"commission.approved","timestamp":"2022-01-01T00:00:00.999Z","data":{"amount":85.5,"name":"Zoë 🚀"}}',
    )
  })

  test('the same bytes each time, and others with another secret', () => {
    const body = buildBody({ ...parts, envelope: 'posthaste' })
    expect(buildBody({ ...parts, envelope: 'posthaste' }).equals(body)).toBe(true)
    expect(buildBody({ ...parts, envelope: 'posthaste', signer: createSigner('another_secret') }).equals(body)).toBe(
      false,
    )
  })

  test('data is not touched: numbers and escapes stay as they were stored', () => {
    const dataText = '{"big":9007199254740993,"price":85.50,"x":"\\u0026\\/"}'
    expect(buildBody({ ...parts, envelope: 'posthaste', dataText }).toString()).toContain(
      `"data":${dataText},"signature"`,
    )
  })
})

describe('signatures', () => {
  test('bytes that are not UTF-8 are signed as they are', () => {
    const body = Uint8Array.of(0xff, 0x00, 0xfe)
    expect(signatureHeader(body, plain)).toBe(
      `sha256=${createHmac('sha256', 'your_webhook_secret').update(body).digest('hex')}`,
    )
    const expected = createHmac('sha256', 'your_webhook_secret').update('id.1.').update(body).digest('base64')
    expect(standardSignature('id', 1, body, [plain])).toBe(`v1,${expected}`)
  })

  test.each(['your_webhook_secret', 'pässwörd-🔑', generateSecret()])(
    'the standardwebhooks package accepts ours: %#',
    (secret) => {
      const now = Math.floor(Date.now() / 1000)
      const signer = createSigner(secret)
      const body = buildBody({ ...parts, envelope: 'posthaste', signer })
      const headers = (signature: string) => ({
        'webhook-id': 'evt_1',
        'webhook-timestamp': String(now),
        'webhook-signature': signature,
      })
      const webhook = new Webhook(standardWebhooksSecret(secret))
      const signature = standardSignature('evt_1', now, body, [signer])
      expect(webhook.verify(body, headers(signature))).toMatchObject({ event: 'commission.approved' })
      expect(webhook.sign('evt_1', new Date(now * 1000), body.toString())).toBe(signature)
      expect(webhook.verify(body, headers(standardSignature('evt_1', now, body, [plain, signer])))).toBeTruthy()
      expect(() => webhook.verify(body, headers(standardSignature('evt_2', now, body, [signer])))).toThrow(
        'No matching',
      )
      expect(() => webhook.verify(`${body.toString()} `, headers(signature))).toThrow('No matching')
    },
  )

  test('ed25519 signatures come after the symmetric ones', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    const body = Buffer.from('{}')
    const [v1, v1a, ...more] = standardSignature('evt_1', 7, body, [plain], [privateKey]).split(' ')
    expect(more).toStrictEqual([])
    expect(v1).toBe(standardSignature('evt_1', 7, body, [plain]))
    expect(v1a).toMatch(/^v1a,/)
    const signature = Buffer.from(v1a?.slice('v1a,'.length) ?? '', 'base64')
    expect(verify(null, Buffer.from('evt_1.7.{}'), publicKey, signature)).toBe(true)
  })

  test('an empty secret signs nothing', () => {
    expect(() => createSigner('')).toThrow('empty')
  })
})
