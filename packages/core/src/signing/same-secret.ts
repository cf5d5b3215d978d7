import { createHash, timingSafeEqual } from 'node:crypto'

/** Whether two texts are the same, in a time that tells neither where they differ nor how long the stored one is. */
export function isSameSecret(given: string, stored: string): boolean {
  return timingSafeEqual(digest(given), digest(stored))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}
