/** A name server on the loopback that answers as a test says (RFC 1035, over UDP). */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'

/** Addresses of the type that was asked for; `unknown`: there is no such name; `silent`: no answer at all. */
export type DnsAnswer = readonly string[] | 'unknown' | 'silent'

export interface DnsServer {
  /** `127.0.0.1:port`, as `Resolver.setServers` takes it. */
  address: string
  /** `A name`, `AAAA name`, in the order in which they came. */
  asked: string[]
  close(): Promise<void>
}

const TYPES: Readonly<Record<number, 'A' | 'AAAA'>> = { 1: 'A', 28: 'AAAA' }
const IS_ANSWER = 0x8180
const NAME_ERROR = 3
const HEADER_BYTES = 12

export async function startDnsServer(answer: (name: string, type: 'A' | 'AAAA') => DnsAnswer): Promise<DnsServer> {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const { name, end } = questionOf(query)
    const type = TYPES[query.readUInt16BE(end - 4)]
    if (type === undefined) return
    asked.push(`${type} ${name}`)
    const found = answer(name, type)
    if (found === 'silent') return
    const records = found === 'unknown' ? [] : found.map(recordOf)
    const header = Buffer.alloc(HEADER_BYTES)
    query.copy(header, 0, 0, 2)
    header.writeUInt16BE(IS_ANSWER | (found === 'unknown' ? NAME_ERROR : 0), 2)
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(records.length, 6)
    socket.send(Buffer.concat([header, query.subarray(HEADER_BYTES, end), ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    close: () => new Promise((done) => socket.close(() => done())),
  }
}

/** The name, and where the question ends: after its type and class. */
function questionOf(query: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = HEADER_BYTES
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 }
}

/** Of the name in the question, for no longer than this answer. */
function recordOf(address: string): Buffer {
  const bytes = isIPv4(address) ? Buffer.from(address.split('.').map(Number)) : ipv6Bytes(address)
  const head = Buffer.from([0xc0, HEADER_BYTES, 0, bytes.length === 4 ? 1 : 28, 0, 1, 0, 0, 0, 0, 0, bytes.length])
  return Buffer.concat([head, bytes])
}

/** Of an address with all eight groups, or one `::`. */
function ipv6Bytes(address: string): Buffer {
  const [front = '', back = ''] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => group.padStart(4, '0')))
  const [first, last] = [groups(front), groups(back)]
  return Buffer.from([...first, ...Array(8 - first.length - last.length).fill('0000'), ...last].join(''), 'hex')
}
