import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { normalise, toWireJson } from '../../packages/core/src/catalog/wire-json.ts'
import { verifyBodySignature, verifyWebhook } from '../../packages/core/src/receiver.ts'
import { createKeyring } from '../../packages/core/src/signing/keyring.ts'
import { buildBody, createSigner, signatureHeader, standardSignature } from '../../packages/core/src/signing/sign.ts'
import { secretProblem } from '../../packages/core/src/signing/signing-secret.ts'
import { propertyRuns } from '../support/property-runs.ts'

const text = fc.string({ unit: 'binary' }).filter((value) => value.isWellFormed())
const json = fc.jsonValue({ stringUnit: 'binary', maxDepth: 5 })
const jsonObject = fc.dictionary(text, json, { noNullPrototype: true })
const secret = fc
  .string({ unit: 'grapheme', minLength: 8, maxLength: 60 })
  .filter((value) => secretProblem(value) === null)
const type = fc.stringMatching(/^[a-z][a-z0-9_]{0,20}(\.[a-z][a-z0-9_]{0,20}){1,3}$/)
const occurredAtMs = fc.integer({ min: 0, max: Date.parse('2100-01-01T00:00:00Z') })

/** What JSON itself makes of a value; only -0 differs from the input, which is written as 0. */
const asJson = (value: unknown) => JSON.parse(JSON.stringify(value))

describe('wire JSON', () => {
  test('parses back to the value, and is the text that JSON.stringify writes', () => {
    fc.assert(
      fc.property(jsonObject, (value) => {
        const normalised = normalise(value)
        expect(JSON.parse(normalised.text)).toStrictEqual(asJson(value))
        expect(asJson(normalised.value)).toStrictEqual(asJson(value))
        expect(normalised.text).toBe(JSON.stringify(value))
      }),
      propertyRuns(1000),
    )
  })

  test('of anything at all: text that parses to the returned value, or NOT_JSON', () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withSparseArray: true,
      withTypedArray: true,
      withBoxedValues: true,
      withNullPrototype: true,
      stringUnit: 'binary',
    })
    fc.assert(
      fc.property(fc.dictionary(fc.string(), anything), (value) => {
        try {
          const normalised = normalise(value)
          expect(JSON.parse(normalised.text)).toStrictEqual(asJson(normalised.value))
          expect(normalised.text).not.toMatch(/(?<!\\)(\\\\)*\\ud[89a-f]/)
        } catch (error) {
          expect(error).toMatchObject({ code: 'NOT_JSON', errors: [{ path: expect.any(String) }] })
        }
      }),
      propertyRuns(1000),
    )
  })

  test('refuses half a surrogate pair wherever it is', () => {
    const half = fc
      .tuple(text, fc.integer({ min: 0xd800, max: 0xdfff }))
      .map(([before, code]) => `${before} ${String.fromCharCode(code)}`)
    fc.assert(
      fc.property(jsonObject, half, fc.boolean(), (value, broken, inKey) => {
        const input = { before: value, list: [{ deep: inKey ? { [broken]: 1 } : broken }] }
        expect(() => toWireJson(input)).toThrow(/surrogate/)
      }),
      propertyRuns(200),
    )
  })
})

describe('bodies', () => {
  test('have exactly four members in order, around the data as it is', () => {
    fc.assert(
      fc.property(jsonObject, type, occurredAtMs, secret, (data, name, at, key) => {
        const dataText = toWireJson(data)
        const body = buildBody({
          envelope: 'posthaste',
          type: name,
          occurredAtMs: at,
          dataText,
          signer: createSigner(key),
        })
        const parsed = JSON.parse(body.toString('utf8'))
        expect(Object.keys(parsed)).toStrictEqual(['event', 'timestamp', 'data', 'signature'])
        expect([parsed.event, parsed.timestamp]).toStrictEqual([name, Math.floor(at / 1000)])
        expect(parsed.data).toStrictEqual(asJson(data))
        expect(parsed.signature).toMatch(/^sha256=[0-9a-f]{64}$/)
        expect(body.includes(`"data":${dataText},"signature"`)).toBe(true)
      }),
      propertyRuns(300),
    )
  })

  test('verify by both headers and by cutting the signature out; a flipped bit anywhere fails all three', async () => {
    await fc.assert(
      fc.asyncProperty(
        jsonObject,
        type,
        occurredAtMs,
        secret,
        fc.nat(),
        fc.nat(7),
        async (data, name, at, key, position, bit) => {
          const signer = createSigner(key)
          const body = buildBody({
            envelope: 'posthaste',
            type: name,
            occurredAtMs: at,
            dataText: toWireJson(data),
            signer,
          })
          const headers = {
            'X-Webhook-Signature': signatureHeader(body, signer),
            'webhook-id': 'evt_1',
            'webhook-timestamp': '1700000000',
            'webhook-signature': standardSignature('evt_1', 1700000000, body, [signer]),
          }
          const verify = (bytes: Uint8Array, scheme: 'standard' | 'x-webhook') =>
            verifyWebhook(bytes, headers, key, { scheme, now: () => 1700000000_000 })
          expect(await verify(body, 'standard')).toMatchObject({ event: name, timestamp: Math.floor(at / 1000) })
          expect(await verify(body, 'x-webhook')).toMatchObject({ event: name })
          expect(await verifyBodySignature(body, key)).toBe(true)

          const flipped = Buffer.from(body)
          const index = position % body.length
          flipped[index] = (flipped[index] ?? 0) ^ (1 << bit)
          await expect(verify(flipped, 'standard')).rejects.toMatchObject({ step: 'signature' })
          await expect(verify(flipped, 'x-webhook')).rejects.toMatchObject({ step: 'signature' })
          expect(await verifyBodySignature(flipped, key)).toBe(false)
        },
      ),
      propertyRuns(300),
    )
  })
})

describe('secrets at rest', () => {
  test('open to what was sealed, and only in their own place', () => {
    const ring = createKeyring({ current: 'k', keys: { k: Buffer.alloc(32, 7) } })
    fc.assert(
      fc.property(text, text, text, (value, context, other) => {
        const sealed = ring.seal(value, context)
        expect(ring.open(sealed, context)).toBe(value)
        if (other !== context) expect(() => ring.open(sealed, other)).toThrow(/cannot be read/)
      }),
      propertyRuns(300),
    )
  })
})
