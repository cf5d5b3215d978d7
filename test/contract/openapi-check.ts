/** Holds every answer of the contract suites against the OpenAPI document that the API itself serves. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { Mounted } from './adapters.ts'
import { token } from './management-api.ts'

interface Document {
  paths: Record<string, Record<string, { responses: Record<string, { content?: Record<string, unknown> }> }>>
}

interface Checker {
  document: Document
  validator(pointer: string): ValidateFunction
}

/** All APIs of a test file have the same document but for its `servers`. */
let checker: Promise<Checker> | undefined

async function createChecker(api: Mounted): Promise<Checker> {
  const answer = await api.fetch(`${api.prefix}/openapi.json`, {
    headers: { authorization: token('default', ['read']) },
  })
  const document = (await answer.json()) as Document
  // OpenAPI's own keywords around the schemas are none of JSON Schema's.
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  addFormats.default(ajv)
  ajv.addSchema(document, 'openapi')
  return {
    document,
    validator(pointer) {
      const validate = ajv.getSchema(`openapi#${pointer}`)
      if (validate === undefined) throw new Error(`There is no schema at ${pointer}`)
      return validate
    },
  }
}

export interface CheckedAnswer {
  method: string
  /** Relative to the mount, with the query. */
  path: string
  status: number
  contentType: string | null
  json: unknown
}

/** Throws where the operation is documented and this answer of it is not, or looks otherwise. */
export async function checkAnswer(api: Mounted, answer: CheckedAnswer): Promise<void> {
  checker ??= createChecker(api)
  const { document, validator } = await checker
  const template = templateOf(document, answer.path)
  const operation = template === null ? undefined : document.paths[template]?.[answer.method.toLowerCase()]
  if (template === null || operation === undefined) return
  const what = `${answer.method} ${template} ${answer.status}`
  const response = operation.responses[answer.status]
  if (response === undefined) throw new Error(`${what} is not in the OpenAPI document`)
  const types = Object.keys(response.content ?? {})
  const [type] = types
  if (type === undefined) {
    if (answer.contentType !== null) throw new Error(`${what} has a body, and the OpenAPI document says none`)
    return
  }
  if (answer.contentType !== type) throw new Error(`${what} is ${answer.contentType}, not ${type}`)
  const steps = [
    'paths',
    template,
    answer.method.toLowerCase(),
    'responses',
    String(answer.status),
    'content',
    type,
    'schema',
  ]
  const validate = validator(steps.map(pointerStep).join(''))
  if (!validate(answer.json)) throw new Error(`${what} is not as documented: ${JSON.stringify(validate.errors)}`)
}

function templateOf(document: Document, path: string): string | null {
  const plain = path.replace(/\?.*$/, '').replace(/(?<=.)\/$/, '') || '/'
  if (document.paths[plain] !== undefined) return plain
  const expression = (template: string) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`)
  return Object.keys(document.paths).find((template) => template !== '/' && expression(template).test(plain)) ?? null
}

/** As a part of a JSON pointer in a URI's fragment (RFC 6901, 6). */
function pointerStep(step: string): string {
  return `/${encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'))}`
}
