/** Certificates for one test, made here: a private authority, and what it issues. ECDSA on P-256; X.509 as RFC 5280 has it. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIPv4 } from 'node:net'

export interface Issued {
  /** PEM. */
  cert: string
  key: string
}

export interface Authority {
  /** Its own certificate, PEM. */
  cert: string
  /** For a server with these names and IPv4 addresses, or for a client; valid from a day ago for ten years, unless said. */
  issue(subject: string, options?: IssueOptions): Issued
}

export interface IssueOptions {
  /** Names and IPv4 addresses. */
  names?: readonly string[]
  usage?: 'server' | 'client'
  notBefore?: Date
  notAfter?: Date
}

const DAY_MS = 86_400_000

export function createAuthority(name: string): Authority {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const lifetime = { notBefore: new Date(Date.now() - 30 * DAY_MS), notAfter: new Date(Date.now() + 3_650 * DAY_MS) }
  const issuer = { name, key: keys.privateKey }
  const isAuthority = extension('2.5.29.19', true, sequence(TRUE))
  return {
    cert: certificate(issuer, name, keys.publicKey, lifetime, [isAuthority]),
    issue(subject, { names = [], usage = 'server', notBefore, notAfter } = {}) {
      const own = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const extensions = [extension('2.5.29.37', false, sequence(oid(usage === 'server' ? SERVER_AUTH : CLIENT_AUTH)))]
      if (names.length > 0) extensions.push(extension('2.5.29.17', false, sequence(...names.map(alternativeName))))
      const valid = {
        notBefore: notBefore ?? new Date(Date.now() - DAY_MS),
        notAfter: notAfter ?? new Date(Date.now() + 3_650 * DAY_MS),
      }
      return {
        cert: certificate(issuer, subject, own.publicKey, valid, extensions),
        key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      }
    },
  }
}

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const TRUE = Buffer.from([0x01, 0x01, 0xff])

function certificate(
  issuer: { name: string; key: KeyObject },
  subject: string,
  publicKey: KeyObject,
  { notBefore, notAfter }: { notBefore: Date; notAfter: Date },
  extensions: readonly Buffer[],
): string {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const serial = randomBytes(8)
  serial[0] = (serial[0]! & 0x7f) | 0x40
  const toBeSigned = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))),
    tagged(0x02, serial),
    algorithm,
    commonName(issuer.name),
    sequence(time(notBefore), time(notAfter)),
    commonName(subject),
    publicKey.export({ type: 'spki', format: 'der' }) as Buffer,
    tagged(0xa3, sequence(...extensions)),
  )
  const signature = sign('sha256', toBeSigned, issuer.key)
  const der = sequence(toBeSigned, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = der.toString('base64').match(/.{1,64}/g)!
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [TRUE] : []), tagged(0x04, value))
}

function alternativeName(name: string): Buffer {
  return isIPv4(name) ? tagged(0x87, Buffer.from(name.split('.').map(Number))) : tagged(0x82, Buffer.from(name))
}

function commonName(name: string): Buffer {
  return sequence(tagged(0x31, sequence(oid('2.5.4.3'), tagged(0x0c, Buffer.from(name)))))
}

/** GeneralizedTime. */
function time(at: Date): Buffer {
  return tagged(0x18, Buffer.from(`${at.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`))
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const part of rest) {
    const groups = [part & 0x7f]
    for (let left = part >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80)
    bytes.push(...groups)
  }
  return tagged(0x06, Buffer.from(bytes))
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts))
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...header]), content])
}
