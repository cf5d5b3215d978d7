/** A line plot as SVG, plain enough to be read in a diff. */
export interface Curve {
  name: string
  /** One value per step. */
  values: readonly number[]
}

const WIDTH = 760
const HEIGHT = 320
const LEFT = 64
const BOTTOM = 40
const TOP = 40
const COLOURS = ['#555555', '#1f77b4', '#d62728', '#2ca02c']

/** Curves over time, from 0 on both axes. @param stepSeconds between two values */
export function drawCurves(title: string, curves: readonly Curve[], stepSeconds: number): string {
  const steps = Math.max(...curves.map(({ values }) => values.length))
  const top = niceCeiling(Math.max(...curves.flatMap(({ values }) => values), 1))
  const x = (step: number) => (LEFT + ((WIDTH - LEFT - 16) * step) / Math.max(1, steps - 1)).toFixed(1)
  const y = (value: number) => (HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top).toFixed(1)
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const value = top * part
    return `  <line x1="${LEFT}" x2="${WIDTH - 16}" y1="${y(value)}" y2="${y(value)}" stroke="#dddddd"/>
  <text x="${LEFT - 8}" y="${y(value)}" text-anchor="end" dominant-baseline="middle">${value.toLocaleString('en')}</text>`
  })
  const seconds = (steps - 1) * stepSeconds
  const every = Math.max(1, Math.ceil(seconds / 10))
  const ticks: string[] = []
  for (let second = 0; second <= seconds; second += every) {
    ticks.push(
      `  <text x="${x(second / stepSeconds)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${second} s</text>`,
    )
  }
  const lines = curves.map(({ name, values }, index) => {
    const colour = COLOURS[index % COLOURS.length]
    const points = values.map((value, step) => `${x(step)},${y(value)}`).join(' ')
    return `  <polyline fill="none" stroke="${colour}" stroke-width="2" points="${points}"/>
  <text x="${LEFT + 8 + index * 170}" y="${TOP - 8}" fill="${colour}">${name}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
  <title>${title}</title>
  <rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
  <text x="${LEFT + 8}" y="16" font-weight="bold">${title}</text>
${[...grid, ...ticks, ...lines].join('\n')}
</svg>
`
}

/** 1, 2 or 5 times a power of ten, at least `value`. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 5, 10].find((factor) => factor * power >= value) as number) * power
}
