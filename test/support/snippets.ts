/** The fenced blocks of our pages, as a reader would copy them. */
import { readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..', '..')

export interface Snippet {
  /** `ts`, `sql`, … as the fence says; empty where it says nothing. */
  language: string
  code: string
}

/** All of a page, or those of one language, in order. */
export function snippetsOf(page: string, language?: string): Snippet[] {
  const text = readFileSync(join(ROOT, page), 'utf8')
  const found = [...text.matchAll(/^( *)(`{3,}|~{3,})(\S*)[^\n]*\n(.*?)^\1\2 *$/gms)].map(
    ([, , , of = '', code = '']) => ({
      language: of,
      code,
    }),
  )
  return language === undefined ? found : found.filter((snippet) => snippet.language === language)
}

/** Runs a snippet as it stands, with the names that it takes for granted, and answers what `result` is then. */
export async function runSnippet(code: string, given: Record<string, unknown>, result = 'undefined'): Promise<unknown> {
  const AsyncFunction = (async () => {}).constructor as new (
    ...source: string[]
  ) => (...values: unknown[]) => Promise<unknown>
  // In a function, so that it may await and answer at the top.
  const plain = stripTypeScriptTypes(`async () => {\n${code}\nreturn ${result}\n}`)
  return await new AsyncFunction(...Object.keys(given), `return await (${plain})()`)(...Object.values(given))
}
