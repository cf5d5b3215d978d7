import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { packSignatures, unpackSignatures } from './packed-signatures.ts'
import { buildBody, createSigner, rebuildBody, signatureHeader, standardSignature } from './sign.ts'

const parts = { type: 'a.b', occurredAtMs: 1_640_995_200_000.25, dataText: '{"n":85.5,"s":"Zürich 🎉"}' }
const [one, two] = [createSigner('your_webhook_secret'), createSigner('the_other_secret')]
const { privateKey } = generateKeyPairSync('ed25519')

describe.each(['posthaste', 'standard'] as const)('the %s envelope', (envelope) => {
  test.each([
    ['one secret', [one], []],
    ['two secrets', [one, two], []],
    ['two secrets and an ed25519 key', [one, two], [privateKey]],
  ])('what was sent can be made again, with %s', (_, signers, keys) => {
    const body = buildBody({ ...parts, envelope, signer: one })
    const header = signatureHeader(body, one)
    const standard = standardSignature('evt_1', 1_640_995_201, body, signers, keys)
    const unpacked = unpackSignatures(envelope, packSignatures(envelope, body, header, standard))
    expect(unpacked).toMatchObject({ header, standard })
    expect(rebuildBody({ ...parts, envelope }, unpacked.body)).toBe(body.toString('utf8'))
  })
})
