/** The model of docs/delivery-states.md, read from there. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Transition {
  from: string
  to: string
  /** `lane owner`, `dispatcher`, or `API: …`. */
  by: string
}

/** The transitions in the table under a heading of the page. */
export function readModel(heading: 'Deliveries' | 'Endpoints'): Transition[] {
  const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'delivery-states.md'), 'utf8')
  const [, section = ''] = page.split(`## ${heading}\n`)
  const rows = (section.split('\n## ')[0] as string).split('\n').filter((line) => line.startsWith('| '))
  return rows.slice(2).map((row) => {
    const [, from, to, by] = row.split('|').map((cell) => cell.trim()) as [string, string, string, string]
    return { from, to, by }
  })
}

/** Everything that can be reached from a state, in any number of transitions by one of these; the state itself, too. */
export function reachable(model: readonly Transition[], from: string, by: ReadonlySet<string>): Set<string> {
  const states = new Set([from])
  // A set's iteration goes on with what is added to it.
  for (const state of states) {
    for (const transition of model) if (transition.from === state && by.has(transition.by)) states.add(transition.to)
  }
  return states
}
