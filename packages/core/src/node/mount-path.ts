/**
 * The part of a request's path under which the API is mounted, as the request has it; null where the path is not below the
 * prefix. A segment of the prefix that begins with `:` stands for any one that is not empty.
 *
 * @param target of the request: its path, with or without a query, or an absolute URL
 * @param prefix as the host gave it to its framework: `/shops/:shop/webhooks`
 */
export function mountPathOf(target: string, prefix: string): string | null {
  const segments = pathOf(target).split('/')
  const expected = prefix.replace(/\/+$/, '').split('/')
  const matches = expected.every((segment, index) => {
    const found = segments[index]
    return segment.startsWith(':') ? found !== undefined && found !== '' : found === segment
  })
  return matches ? segments.slice(0, expected.length).join('/') : null
}

/** The path of a request's target, unchanged: the start of the usual form, or a part of the absolute one (RFC 9112, 3.2). */
export function pathOf(target: string): string {
  const path = target.startsWith('/') ? target : target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i, '')
  return path.split('?', 1)[0] ?? ''
}
