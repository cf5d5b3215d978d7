import { connect, type Socket } from 'node:net'
import type { LookupAddress } from './name-lookup.ts'
import type { SourceAddresses } from './source-address.ts'

/** "Connection Attempt Delay" of RFC 8305 section 5: after so long the next address is tried beside the first, in ms. */
const NEXT_ADDRESS_AFTER_MS = 250

/** Addresses of one name that are tried in one connect; the rest are checked, but a name must not buy a port scan. */
export const MAX_ADDRESSES_TRIED = 6

/** No address is of a family that a connection may begin in. */
export const NO_USABLE_FAMILY = 'NO_USABLE_FAMILY'

/**
 * Opens a TCP connection to one of the addresses, in their order with families alternating, the next one beside those that
 * have not answered. Nothing is resolved here. Rejects with the last address' error; never after an abort.
 *
 * @param sources where connections begin; null for wherever the system says
 */
export function openTcp(
  answers: readonly LookupAddress[],
  port: number,
  sources: SourceAddresses | null,
  signal: AbortSignal,
): Promise<Socket> {
  const usable = sources === null ? answers : answers.filter(({ family }) => sources.has(family))
  const addresses = alternateFamilies(usable).slice(0, MAX_ADDRESSES_TRIED)
  return new Promise((resolve, reject) => {
    const opening = new Set<Socket>()
    let next = 0
    let timer: NodeJS.Timeout | undefined

    /** Their error listeners stay: a destroyed socket may yet fail. */
    const release = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', release)
      for (const socket of opening) socket.destroy()
      opening.clear()
    }

    const tryNext = () => {
      clearTimeout(timer)
      const address = addresses[next++]
      if (address === undefined) return
      const localAddress = sources?.get(address.family)
      const socket = connect({
        host: address.address,
        port,
        autoSelectFamily: false,
        ...(localAddress === undefined ? {} : { localAddress }),
      })
      socket.setNoDelay(true)
      opening.add(socket)
      socket.once('connect', () => {
        if (!opening.delete(socket)) return
        release()
        resolve(socket)
      })
      socket.on('error', (error) => {
        // Also called for a connection that is in use by now; whoever uses it hears the error too.
        if (!opening.delete(socket)) return
        if (next < addresses.length) tryNext()
        else if (opening.size === 0) {
          release()
          reject(error)
        }
      })
      if (next < addresses.length) timer = setTimeout(tryNext, NEXT_ADDRESS_AFTER_MS)
    }

    if (addresses.length === 0) {
      reject(Object.assign(new Error('no address of a usable family'), { code: NO_USABLE_FAMILY }))
      return
    }
    signal.addEventListener('abort', release)
    tryNext()
  })
}

/** The first address first, then one of each family in turn (RFC 8305 section 4), so that one broken family costs little. */
function alternateFamilies(answers: readonly LookupAddress[]): LookupAddress[] {
  const family = answers[0]?.family
  const first = answers.filter((answer) => answer.family === family)
  const second = answers.filter((answer) => answer.family !== family)
  const ordered: LookupAddress[] = []
  for (let index = 0; index < Math.max(first.length, second.length); index++) {
    for (const answer of [first[index], second[index]]) if (answer !== undefined) ordered.push(answer)
  }
  return ordered
}
