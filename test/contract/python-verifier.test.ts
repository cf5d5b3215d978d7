/**
 * The verifier of the page, as its readers have it: the Python function copied unchanged out of the source document and
 * run, and the same algorithm in TypeScript, which runs everywhere.
 */
import { spawnSync } from 'node:child_process'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { toWireJson } from '../../packages/core/src/catalog/wire-json.ts'
import { buildBody, createSigner, type Envelope, signatureHeader } from '../../packages/core/src/signing/sign.ts'
import { generateSecret } from '../../packages/core/src/signing/signing-secret.ts'

interface Call {
  payload: string
  signature: string
  secret: string
}

const SOURCE_DOCUMENT = new URL('../../../shared/source-document.txt', import.meta.url)

/** The page's algorithm, line by line. */
function verifyLikeThePage({ payload, signature, secret }: Call): boolean {
  const expected = createHmac('sha256', Buffer.from(secret, 'utf8')).update(Buffer.from(payload, 'utf8')).digest('hex')
  const received = Buffer.from(signature.replaceAll('sha256=', ''))
  return received.length === expected.length && timingSafeEqual(received, Buffer.from(expected))
}

const secrets = ['your_webhook_secret', generateSecret(), 'pässwörd-🔑-geheim']
const payloads: Array<[type: string, dataText: string]> = [
  ...affiliateEvents.types.map((type): [string, string] => [type, affiliateEvents.get(type).exampleText]),
  [
    'affiliate.created',
    toWireJson({ affiliate_name: 'Zoë Müller 🚀 東京', note: 'a\u0000b\n"\\ \u2028 <&>', empty: '' }),
  ],
]

const deliveries: Call[] = secrets.flatMap((secret) =>
  payloads.flatMap(([type, dataText]) =>
    (['posthaste', 'standard'] satisfies Envelope[]).map((envelope) => {
      const signer = createSigner(secret)
      const body = buildBody({ envelope, type, occurredAtMs: 1640995200000, dataText, signer })
      return { payload: body.toString('utf8'), signature: signatureHeader(body, signer), secret }
    }),
  ),
)

/** Everything that must not pass, made from one good delivery. */
function tamper({ payload, signature, secret }: Call): Call[] {
  const digit = signature.at(-1) === '0' ? '1' : '0'
  return [
    { payload: payload.replace('"data":{', '"data":{ '), signature, secret },
    { payload: `${payload}\n`, signature, secret },
    { payload: payload.slice(1), signature, secret },
    { payload: '', signature, secret },
    { payload, signature: signature.slice(0, -1) + digit, secret },
    { payload, signature: 'sha256=', secret },
    { payload, signature: '', secret },
    { payload, signature, secret: `${secret} ` },
    { payload, signature, secret: '' },
  ]
}

const tampered = deliveries.flatMap(tamper)

test('the algorithm of the page: true for our deliveries, false for tampered ones', () => {
  expect(deliveries).toHaveLength(secrets.length * payloads.length * 2)
  expect(deliveries.map(verifyLikeThePage)).toStrictEqual(deliveries.map(() => true))
  expect(tampered.map(verifyLikeThePage)).toStrictEqual(tampered.map(() => false))
})

/** The text of `verify_webhook` with its imports, cut out of the page without a change; null where there is no page. */
function pageFunction(): string | null {
  if (!existsSync(SOURCE_DOCUMENT)) return null
  const page = readFileSync(SOURCE_DOCUMENT, 'utf8')
  const start = page.indexOf('import hmac')
  const end = page.indexOf('# Usage')
  if (start < 0 || end < start) throw new Error('The source document no longer holds "import hmac … # Usage".')
  return page.slice(start, end)
}

/** Calls the function in one Python process; an exception is neither true nor false, but its name. */
function callPython(source: string, calls: Call[]): unknown[] {
  const program = `${source}
import json, sys
results = []
for call in json.load(sys.stdin):
    try:
        results.append(verify_webhook(call["payload"], call["signature"], call["secret"]))
    except Exception as error:
        results.append(type(error).__name__)
json.dump(results, sys.stdout)
`
  const { status, stdout, stderr } = spawnSync('python3', ['-c', program], {
    input: JSON.stringify(calls),
    encoding: 'utf8',
    timeout: 30_000,
    maxBuffer: 16 * 1024 * 1024,
  })
  if (status !== 0) throw new Error(`python3 ended with ${status}: ${stderr}`)
  return JSON.parse(stdout) as unknown[]
}

const source = pageFunction()
const hasPython = spawnSync('python3', ['--version']).status === 0
const missing = [...(source === null ? ['../shared/source-document.txt'] : []), ...(hasPython ? [] : ['python3'])]
if (missing.length > 0) {
  console.warn(`SKIPPED: the page's own Python verifier was not run, because ${missing.join(' and ')} is missing here.`)
}

describe.skipIf(missing.length > 0)(
  `the page's Python function, unchanged${missing.length > 0 ? ` (${missing.join(', ')} missing)` : ''}`,
  () => {
    test('returns true for every delivery of ours', () => {
      expect(source).toMatch(/^def verify_webhook\(payload, signature, secret\):$/m)
      expect(callPython(source as string, deliveries)).toStrictEqual(deliveries.map(() => true))
    })

    test('returns false for every tampered one', () => {
      expect(callPython(source as string, tampered)).toStrictEqual(tampered.map(() => false))
    })

    test('an exception counts for neither', () => {
      const call = deliveries[0] as Call
      expect(callPython(source as string, [{ ...call, signature: 'sha256=ä' }])).toStrictEqual(['TypeError'])
    })
  },
)
