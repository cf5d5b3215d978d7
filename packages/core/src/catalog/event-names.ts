/** Event type names and the patterns that endpoints subscribe to: an exact name, a group such as `commission.*`, or `*`. */

/** Longest event type name in characters; names travel in a header and lie in indexes. */
export const MAX_EVENT_TYPE_LENGTH = 128

const EVENT_TYPE = /^[a-z0-9][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+$/

/** Lower snake case segments joined by dots, at least two: `commission.approved`, `shop.order.paid`. */
export function isEventTypeName(name: string): boolean {
  return name.length <= MAX_EVENT_TYPE_LENGTH && EVENT_TYPE.test(name)
}

/**
 * Every pattern that an event of this type matches, the most exact first:
 * `shop.order.paid` → `shop.order.paid`, `shop.order.*`, `shop.*`, `*`.
 */
export function subscriptionPatterns(type: string): string[] {
  const patterns = [type]
  for (let dot = type.lastIndexOf('.'); dot > 0; dot = type.lastIndexOf('.', dot - 1)) {
    patterns.push(`${type.slice(0, dot)}.*`)
  }
  patterns.push('*')
  return patterns
}
