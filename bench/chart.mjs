// Charts as SVG, readable on light and on dark ground. Colours tell Carillon from the others, labels tell the rest.

const WIDTH = 760
const ROW = 18
const LABEL = 170
const COLOURS = ['#d9480f', '#1971c2', '#2f9e44', '#9c36b5', '#e8a100', '#0c8599', '#868e96', '#c2255c', '#495057', '#5c940d']
const escape = (text) => String(text).replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)

function document(height, title, body) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
<text x="12" y="24" font-size="15" font-weight="600">${escape(title)}</text>
${body.join('\n')}
</svg>
`
}

/** Horizontal bars: `groups` are pairs of a name and pairs of label and value; each group has its own scale. */
export function bars(title, groups, digits) {
  const body = []
  let y = 48
  for (const [name, entries] of groups) {
    const largest = Math.max(...entries.map(([, value]) => value))
    body.push(`<text x="12" y="${y + 4}" font-weight="600">${escape(name)}</text>`)
    y += ROW
    for (const [label, value] of entries) {
      const length = Math.max(1, (value / largest) * (WIDTH - LABEL - 90))
      const colour = label.startsWith('Carillon') ? COLOURS[0] : label.startsWith('floor') ? COLOURS[6] : COLOURS[1]
      body.push(`<text x="${LABEL - 8}" y="${y + 4}" text-anchor="end">${escape(label)}</text>`)
      body.push(`<rect x="${LABEL}" y="${y - 7}" width="${length.toFixed(1)}" height="13" fill="${colour}"/>`)
      body.push(`<text x="${(LABEL + length + 6).toFixed(1)}" y="${y + 4}">${value.toFixed(digits)}</text>`)
      y += ROW
    }
    y += ROW / 2
  }
  return document(y, title, body)
}

/** One curve per series, steps of equal width, logarithmic upwards. `series` are pairs of a label and [step, value] points. */
export function curves(title, series) {
  const [left, right, top, bottom] = [56, WIDTH - 190, 48, 320]
  const steps = [...new Set(series.flatMap(([, points]) => points.map(([step]) => step)))]
  const values = series.flatMap(([, points]) => points.map(([, value]) => value)).filter((value) => value > 0)
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))]
  const x = (step) => left + ((right - left) * (steps.indexOf(step) + 0.5)) / steps.length
  const y = (value) => bottom - ((bottom - top) * (Math.log10(value) - low)) / Math.max(1, high - low)
  const body = []
  for (let power = low; power <= high; power += 1) {
    body.push(`<line x1="${left}" y1="${y(10 ** power)}" x2="${right}" y2="${y(10 ** power)}" stroke="#ccc"/>`)
    body.push(`<text x="${left - 8}" y="${y(10 ** power) + 4}" text-anchor="end">${10 ** power}</text>`)
  }
  for (const step of steps) body.push(`<text x="${x(step)}" y="${bottom + 20}" text-anchor="middle">${escape(step)}</text>`)
  series.forEach(([label, points], index) => {
    const colour = COLOURS[index % COLOURS.length]
    const line = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
    body.push(`<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"/>`)
    body.push(`<rect x="${right + 16}" y="${top + index * ROW - 9}" width="12" height="12" fill="${colour}"/>`)
    body.push(`<text x="${right + 34}" y="${top + index * ROW + 2}">${escape(label)}</text>`)
  })
  return document(bottom + 40, title, body)
}

/** Points of x and y on linear scales, y from zero. */
export function timeline(title, points) {
  const [left, right, top, bottom] = [56, WIDTH - 24, 48, 320]
  const [width, height] = [Math.max(...points.map(([at]) => at), 1e-9), Math.max(...points.map(([, value]) => value), 1e-9) * 1.1]
  const x = (at) => (left + ((right - left) * at) / width).toFixed(1)
  const y = (value) => (bottom - ((bottom - top) * value) / height).toFixed(1)
  const body = []
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    body.push(`<line x1="${left}" y1="${y(part * height)}" x2="${right}" y2="${y(part * height)}" stroke="#ccc"/>`)
    body.push(`<text x="${left - 8}" y="${y(part * height)}" text-anchor="end">${(part * height).toFixed(0)}</text>`)
    body.push(`<text x="${x(part * width)}" y="${bottom + 20}" text-anchor="middle">${(part * width).toFixed(1)}</text>`)
  }
  const line = points.map(([at, value]) => `${x(at)},${y(value)}`).join(' ')
  body.push(`<polyline points="${line}" fill="none" stroke="${COLOURS[0]}" stroke-width="1.5"/>`)
  return document(bottom + 40, title, body)
}
