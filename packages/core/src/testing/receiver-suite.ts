/** What a receiver of webhooks has to do, seen from outside: by requests as Posthaste sends them, and as an attacker would. */
import { type ConformanceCase, type ConformanceReport, runCases, Skip } from './conformance.ts'
import { type SignedWebhook, type SignWebhookOptions, signWebhook, type WebhookFault } from './sign-webhook.ts'

export interface ReceiverOptions {
  url: string
  /** The secret that it verifies with. */
  secret: string
  /** An event type that it handles. Default `payout.processed`. */
  event?: string
  /** Default: the example of the built-in catalogue. */
  data?: unknown
  /**
   * What it verifies. `standard`, the default, signs id and time; a receiver that looks at `X-Webhook-Signature` alone cannot
   * tell a request that is sent again, and those cases are skipped for `x-webhook`.
   */
  scheme?: 'standard' | 'x-webhook'
  /** How soon it has to answer, in ms. Default 5,000, a third of the sender's deadline. */
  withinMs?: number
  /** How many events it has acted upon so far. With it, a repeated delivery must not be acted upon twice. */
  handled?(): number | Promise<number>
  /** More headers for every request, such as a bypass of a gateway. */
  headers?: Readonly<Record<string, string>>
}

interface Context extends ReceiverOptions {
  event: string
  scheme: 'standard' | 'x-webhook'
  withinMs: number
}

interface Answer {
  status: number
  ms: number
}

/** The sender's own deadline: what takes longer is a failed delivery. */
const DEADLINE_MS = 15_000
/** Statuses that say "not verified": on these, and no others, a sender tries the other secret of a rotation at once. */
const REFUSALS = [400, 401, 403]
const EVERY_SCRIPT = 'Zoë Ünïcödé 漢字 🙂👩‍👩‍👧 \u2028 "quoted" \\ \u0001'

/** Each case of `checkReceiver`, for a report or a test of its own. */
export const receiverCases: readonly ConformanceCase<ReceiverOptions>[] = (
  [
    ['accepts a signed event', (it) => expectAccepted(it, sign(it))],
    [
      'accepts text of every script',
      (it) => expectAccepted(it, sign(it, { data: { ...objectOf(it.data), note: EVERY_SCRIPT } })),
    ],
    [
      'accepts an event type that it does not know',
      (it) => expectAccepted(it, sign(it, { event: 'something.unheard_of', data: {} })),
    ],
    [
      'accepts both secrets while they change',
      // Its own is the second in the list.
      (it) => expectAccepted(it, sign(it, { secret: 'the-secret-that-comes-next', previousSecret: it.secret })),
    ],
    [
      'accepts a delivery again, and acts upon it once',
      async (it) => {
        const id = `evt_${crypto.randomUUID().replaceAll('-', '')}`
        const before = await it.handled?.()
        await expectAccepted(it, sign(it, { id }))
        await expectAccepted(it, sign(it, { id, attempt: 2 }))
        if (it.handled === undefined || before === undefined) return
        const times = (await it.handled()) - before
        if (times !== 1)
          throw new Error(
            `it acted ${times} times upon one event that was delivered twice; its webhook-id is the same.`,
          )
      },
    ],
    [
      'answers quickly',
      async (it) => {
        const { ms } = await expectAccepted(it, sign(it))
        if (ms > it.withinMs)
          throw new Error(`it took ${Math.round(ms)} ms, more than ${it.withinMs}: answer first, and work afterwards.`)
      },
    ],
    ['refuses a tampered body', (it) => expectRefused(it, 'tampered')],
    ['refuses the signature of another secret', (it) => expectRefused(it, 'wrong_secret')],
    ['refuses a request without a signature', (it) => expectRefused(it, 'unsigned')],
    ['refuses a request that was signed an hour ago', (it) => expectRefused(needsTime(it), 'expired')],
    ['refuses a recorded request under a new time', (it) => expectRefused(needsTime(it), 'replayed')],
  ] satisfies [string, (it: Context) => Promise<unknown>][]
).map(([name, run]) => ({
  name,
  async run(options) {
    await run({ event: 'payout.processed', scheme: 'standard', withinMs: 5_000, ...options })
  },
}))

/** Sends a receiver what it must accept and what it must refuse, and reports; one that cannot be reached fails every case. */
export async function checkReceiver(options: ReceiverOptions): Promise<ConformanceReport> {
  return await runCases(receiverCases, options)
}

function sign({ secret, event, data, scheme }: Context, more: Partial<SignWebhookOptions> = {}): SignedWebhook {
  const signed = signWebhook({ secret, event, ...(data === undefined ? {} : { data }), ...more })
  if (scheme === 'standard') return signed
  const { headers } = signed
  // Nothing of the other scheme: a receiver that takes it where it is there would be tested by that.
  return {
    ...signed,
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith('webhook-'))),
  }
}

function needsTime(it: Context): Context {
  if (it.scheme === 'standard') return it
  throw new Skip('X-Webhook-Signature does not sign the time; verify webhook-signature to refuse what is sent again.')
}

function objectOf(data: unknown): object {
  return typeof data === 'object' && data !== null ? data : {}
}

async function expectAccepted(it: Context, webhook: SignedWebhook): Promise<Answer> {
  const answer = await post(it, webhook)
  if (answer.status >= 200 && answer.status < 300) return answer
  throw new Error(`it answered ${answer.status} to an authentic request; only 2xx counts as delivered.`)
}

async function expectRefused(it: Context, fault: WebhookFault): Promise<void> {
  const { status } = await post(it, sign(it, { fault }))
  if (REFUSALS.includes(status)) return
  const advice =
    status < 300 ? 'it accepted what it must refuse.' : `it refused with ${status}; answer 400, 401 or 403.`
  throw new Error(status < 300 ? `it answered ${status}: ${advice}` : advice)
}

async function post({ url, headers }: Context, webhook: SignedWebhook): Promise<Answer> {
  const at = performance.now()
  const response = await fetch(url, {
    method: 'POST',
    body: webhook.body,
    headers: { ...webhook.headers, ...headers },
    redirect: 'manual',
    signal: AbortSignal.timeout(DEADLINE_MS),
  })
  const { status } = response
  await response.arrayBuffer()
  return { status, ms: performance.now() - at }
}
