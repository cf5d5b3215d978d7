import type { HotQuery } from './hot-queries.ts'

/** docs/query-plans.md. Plans that touch no table are left out: they only compute. */
export function describeHotQueries(queries: readonly HotQuery[]): string {
  const sections = queries.map(({ name, when, plans }) => {
    const shown = plans.filter((plan) => /Scan .*\bon (?!unnest|pg_|u\b|x\b)\w+/.test(plan) || /Insert on/.test(plan))
    return `## ${name}\n\n${when[0]?.toUpperCase()}${when.slice(1)}.\n\n${shown.map((plan) => `    ${plan.replaceAll('\n', '\n    ')}`).join('\n\n')}\n`
  })
  return `# Plans of the hot queries

What Postgres does for the statements that dispatching and delivering consist of, on a database with 10,000 events, 200,000
deliveries, 40,000 waiting retries and 20,200 endpoints. Made by \`scripts/query-plans.ts\`; a test makes the plans anew and fails
where one of them reads a whole table that grows (\`test/integration/query-plans.test.ts\`). Costs and times are left out, partitions
that hold nothing too.

${sections.join('\n')}`
}
