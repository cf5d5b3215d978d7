/**
 * How a backend signs that has read the documentation of `node:crypto`: `createHmac` with a KeyObject, prepared once. It is
 * what the floor uses, whatever Posthaste itself does, so that the floor stays where it is. The bytes are the same.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto'

export interface TextbookSigner {
  raw: KeyObject
  standard: KeyObject
}

/** @param secret `whsec_` and base64 */
export function textbookSigner(secret: string): TextbookSigner {
  return {
    raw: createSecretKey(Buffer.from(secret, 'utf8')),
    standard: createSecretKey(Buffer.from(secret.slice('whsec_'.length), 'base64')),
  }
}

export function textbookBody(type: string, occurredAtMs: number, dataText: string, signer: TextbookSigner): Buffer {
  const open = `{"event":${JSON.stringify(type)},"timestamp":${Math.floor(occurredAtMs / 1000)},"data":${dataText}`
  const signature = createHmac('sha256', signer.raw).update(`${open}}`, 'utf8').digest('hex')
  return Buffer.from(`${open},"signature":"sha256=${signature}"}`, 'utf8')
}

export function textbookHeader(body: Buffer, signer: TextbookSigner): string {
  return `sha256=${createHmac('sha256', signer.raw).update(body).digest('hex')}`
}

export function textbookStandard(id: string, timestamp: number, body: Buffer, signer: TextbookSigner): string {
  return `v1,${createHmac('sha256', signer.standard).update(`${id}.${timestamp}.`, 'utf8').update(body).digest('base64')}`
}
