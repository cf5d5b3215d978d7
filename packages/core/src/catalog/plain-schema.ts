/**
 * What is validated is what is sent, so a schema may check and never change. This finds the parts of a schema that could:
 * transforms, defaults, coercion, trimming, and types whose values are not JSON.
 */
import type { $ZodCheck, $ZodType, $ZodTypes } from 'zod/v4/core'

/** Where in a schema something changes the value, and what; null where nothing does. */
export interface SchemaProblem {
  path: string
  what: string
}

const REFUSED: Partial<Record<$ZodTypes['_zod']['def']['type'], string>> = {
  transform: 'a transform',
  pipe: 'a pipe (transform, preprocess, codec or stringbool)',
  default: 'a default, which changes the value',
  prefault: 'a prefault, which changes the value',
  catch: 'a catch, which changes the value',
  success: 'z.success, which changes the value',
  date: 'z.date(), which JSON does not have; use isoDate()',
  bigint: 'z.bigint(), which JSON does not have; use z.string() or z.int()',
  map: 'z.map(), which JSON does not have; use z.record()',
  set: 'z.set(), which JSON does not have; use z.array()',
  symbol: 'z.symbol(), which JSON does not have',
  nan: 'z.nan(), which JSON does not have',
  file: 'z.file(), which JSON does not have',
  function: 'z.function(), which JSON does not have',
  promise: 'z.promise(), which JSON does not have',
  void: 'z.void(), which JSON does not have',
}

/** The first part of `schema` that would change a value or cannot describe JSON, depth first; null where there is none. */
export function findChangingPart(schema: $ZodType): SchemaProblem | null {
  return visit(schema as $ZodTypes, '', new Set())
}

function visit(schema: $ZodTypes, path: string, seen: Set<$ZodTypes>): SchemaProblem | null {
  if (seen.has(schema)) return null
  seen.add(schema)
  const def = schema._zod.def
  const what = REFUSED[def.type] ?? changeInChecks(schema)
  if (what !== null) return { path, what }
  for (const [step, child] of children(schema)) {
    const problem = visit(child as $ZodTypes, join(path, step), seen)
    if (problem !== null) return problem
  }
  return null
}

/** `z.coerce.*`, `.trim()`, `.toLowerCase()`, `z.url({ normalize: true })` and the like. */
function changeInChecks(schema: $ZodTypes): string | null {
  const def = schema._zod.def as { coerce?: boolean; checks?: $ZodCheck[] }
  if (def.coerce === true) return 'coercion (z.coerce)'
  // A format such as z.url() is its own first check.
  for (const check of [schema, ...(def.checks ?? [])]) {
    const checkDef = check._zod.def as { check?: string; normalize?: boolean }
    if (checkDef.check === 'overwrite')
      return 'a check that rewrites the text (trim, toLowerCase, normalize, overwrite)'
    if (checkDef.normalize === true) return 'z.url({ normalize: true }), which rewrites the text'
  }
  return null
}

function children(schema: $ZodTypes): Array<readonly [step: string, child: unknown]> {
  const def = schema._zod.def
  switch (def.type) {
    case 'object':
      return [...Object.entries(def.shape), ...(def.catchall ? [['*', def.catchall] as const] : [])]
    case 'array':
      return [['*', def.element]]
    case 'tuple':
      return [
        ...def.items.map((item, index) => [String(index), item] as const),
        ...(def.rest ? [['*', def.rest] as const] : []),
      ]
    case 'record':
      return [
        ['(key)', def.keyType],
        ['*', def.valueType],
      ]
    case 'union':
      return def.options.map((option) => ['', option] as const)
    case 'intersection':
      return [
        ['', def.left],
        ['', def.right],
      ]
    case 'optional':
    case 'nullable':
    case 'nonoptional':
    case 'readonly':
      return [['', def.innerType]]
    case 'lazy':
      return [['', def.getter()]]
    default:
      return []
  }
}

function join(path: string, step: string): string {
  if (step === '') return path
  return path === '' ? step : `${path}.${step}`
}
