/**
 * The import rule of docs/architecture.md as a plugin of oxlint. Inside packages/core/src imports point one way:
 *
 *   leaves ← catalog, signing, storage ← emit, dispatch, lanes, http-client ← delivery, endpoints ← queue, api ← webhooks.ts
 *
 * Between endpoints and api lie the other services: deliveries (which also uses delivery), then event-log and stats; replays; secret-keys.
 *
 * A layer may import itself and what `LAYERS` grants it; what is in no layer is refused, so that a new folder is a decision.
 * Libraries with consequences have a home (`HOMES`). Unit tests may import what they like.
 */

const LEAVES = ['errors', 'ids', 'clock', 'logger', 'duration', 'background-loop', 'version']
const FOUNDATION = [...LEAVES, 'lifecycle', 'catalog', 'signing', 'storage']
const PARTS = [...FOUNDATION, 'emit', 'dispatch', 'lanes', 'http-client']
const SERVICES = ['endpoints', 'deliveries', 'event-log', 'replays', 'stats', 'secret-keys']
const FACES = [...PARTS, 'installation', 'privacy', 'delivery', ...SERVICES, 'queue', 'api']

/** What each file or folder directly under packages/core/src may import besides itself. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(LEAVES.map((leaf) => [leaf, LEAVES])),
  lifecycle: LEAVES,
  catalog: [...LEAVES, 'lifecycle'],
  signing: [...LEAVES, 'lifecycle'],
  storage: [...LEAVES, 'lifecycle'],
  emit: FOUNDATION,
  dispatch: FOUNDATION,
  lanes: FOUNDATION,
  installation: FOUNDATION,
  privacy: FOUNDATION,
  'http-client': FOUNDATION,
  delivery: PARTS,
  endpoints: PARTS,
  deliveries: [...PARTS, 'delivery', 'endpoints'],
  'event-log': [...PARTS, 'endpoints', 'deliveries'],
  replays: [...PARTS, 'endpoints'],
  stats: [...PARTS, 'endpoints', 'deliveries'],
  'secret-keys': FOUNDATION,
  queue: [...PARTS, 'delivery'],
  api: [...PARTS, 'delivery', ...SERVICES],
  config: FACES,
  worker: [...FACES, 'config'],
  webhooks: [...FACES, 'config', 'worker'],
  index: [...FACES, 'config', 'worker', 'webhooks'],
  // For tests of hosts and receivers. Nothing in core may depend on it.
  testing: [...FACES, 'config', 'worker', 'webhooks'],
  // For the adapters: between Node's messages and Request/Response. Nothing in core may depend on it.
  node: LEAVES,
  // What a receiver installs: it verifies a signature and needs nothing else, whatever it runs on.
  receiver: [],
  // The receiver's inbox on its own Postgres: of the sending side it uses what recognises a host's transaction.
  inbox: [...LEAVES, 'storage', 'emit'],
}

/** Libraries that only these layers may import. */
const HOMES: Readonly<Record<string, readonly string[]>> = {
  'graphile-worker': ['queue'],
  // storage/orm.ts loads it by require: see there for why nobody should import it.
  'drizzle-orm': ['storage'],
  postgres: ['storage'],
  // graphile-worker's driver, of which the queue is handed a pool.
  pg: ['storage', 'queue'],
  eventemitter3: ['lifecycle'],
}

interface Node {
  type: string
  source?: { value?: unknown } | null
  importKind?: string
  exportKind?: string
  specifiers?: { importKind?: string; exportKind?: string }[]
}

interface Context {
  filename?: string
  physicalFilename?: string
  report(descriptor: { node: unknown; message: string }): void
}

export interface FoundImport {
  /** Path of the importing file, with forward slashes. */
  file: string
  specifier: string
  /** Erased before the code runs. */
  typeOnly: boolean
  /** `import()`, loaded when it is reached. */
  dynamic: boolean
}

/** What is wrong with an import, or null. */
export function judgeImport({ file, specifier, typeOnly, dynamic }: FoundImport): string | null {
  const [, packageName, path] = /(?:^|\/)packages\/([^/]+)\/src\/(.+)$/.exec(file) ?? []
  if (packageName === undefined || path === undefined || path.endsWith('.test.ts')) return null
  const relative = specifier.startsWith('.')
  const target = relative ? join(path, specifier) : specifier
  if (target.startsWith('..')) return `${specifier} leaves the package: import packages by their name.`
  if (packageName !== 'core') return null

  const from = layerOf(path)
  const allowed = LAYERS[from]
  if (allowed === undefined) return `${from} is in no layer yet: give it a place in scripts/lint/import-layers.ts.`
  if (from === 'receiver' && !typeOnly && !(relative && layerOf(target) === 'receiver')) {
    return `The receiver's entry runs anywhere, so it imports nothing at runtime (${specifier}).`
  }
  if (relative) {
    const to = layerOf(target)
    if (to === from || allowed.includes(to) || (from === 'receiver' && typeOnly)) return null
    return `${from} may not import ${to}: imports point one way (scripts/lint/import-layers.ts).`
  }
  const library = specifier.startsWith('@')
    ? specifier.split('/').slice(0, 2).join('/')
    : (specifier.split('/')[0] ?? '')
  if (library.startsWith('@posthaste/')) return `core imports itself by relative paths, and no adapter (${specifier}).`
  const homes = HOMES[library]
  if (homes !== undefined && !homes.includes(from)) return `Only ${homes.join(', ')} may import ${library}.`
  if (library === 'graphile-worker' && !typeOnly && !dynamic) {
    return 'graphile-worker may end the process as soon as it is loaded: load it with import() where it is needed.'
  }
  return null
}

/** The file's or folder's name directly under src, without ending. */
function layerOf(path: string): string {
  return (path.split('/')[0] ?? '').replace(/\.ts$/, '')
}

function join(file: string, specifier: string): string {
  const parts = file.split('/').slice(0, -1)
  for (const part of specifier.split('/')) {
    if (part === '..' && parts.length > 0 && parts.at(-1) !== '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/')
}

function isTypeOnly(node: Node): boolean {
  if (node.type === 'TSImportType' || node.importKind === 'type' || node.exportKind === 'type') return true
  const specifiers = node.specifiers ?? []
  return (
    specifiers.length > 0 && specifiers.every(({ importKind, exportKind }) => (importKind ?? exportKind) === 'type')
  )
}

const rule = {
  create(context: Context) {
    const file = (context.physicalFilename ?? context.filename ?? '').replaceAll('\\', '/')
    const check = (node: Node) => {
      const specifier = node.source?.value
      if (typeof specifier !== 'string') return
      const dynamic = node.type === 'ImportExpression'
      const message = judgeImport({ file, specifier, typeOnly: isTypeOnly(node), dynamic })
      if (message !== null) context.report({ node, message })
    }
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
      TSImportType: check,
    }
  },
}

export default { meta: { name: 'posthaste' }, rules: { 'import-layers': rule } }
