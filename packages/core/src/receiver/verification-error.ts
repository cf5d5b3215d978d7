/**
 * Which step failed: `secret` and `headers` are nearly always configuration, `body` a framework that parsed the body,
 * `signature` a wrong secret or changed bytes, `timestamp` a clock or a replayed request, `payload` what the sender sent.
 */
export type VerificationStep = 'secret' | 'body' | 'headers' | 'signature' | 'timestamp' | 'payload'

/**
 * The request is not, or cannot be shown to be, from the sender: answer 401 and do not act on it. The message says how to
 * mend it and holds neither secret nor signature; it is for your logs, not for the answer.
 */
export class WebhookVerificationError extends Error {
  override readonly name = 'WebhookVerificationError'
  readonly step: VerificationStep

  constructor(step: VerificationStep, message: string) {
    super(message)
    this.step = step
  }
}
