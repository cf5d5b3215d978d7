/** What the demo prints: lines for people, in colour where a terminal shows them. */
export interface Screen {
  heading(text: string): void
  line(text?: string): void
  good(text: string): string
  bad(text: string): string
  dim(text: string): string
}

export function createScreen(out: NodeJS.WriteStream): Screen {
  // https://no-color.org: any value but the empty one.
  const colours = out.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
  const paint = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text)
  const bold = paint(1)
  const line = (text = '') => out.write(`${text}\n`)
  return {
    heading: (text) => line(`\n${bold(text)}`),
    line,
    good: paint(32),
    bad: paint(31),
    dim: paint(2),
  }
}

/** Columns, each as wide as its widest cell; the last one is left as it is. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row.map((cell, column) => (column < row.length - 1 ? cell.padEnd(widths[column]!) : cell)).join('  '),
  )
}
