// A small line chart over the last minute and a half, a sample each second, drawn as SVG.

import { element } from './dom.js'

const SVG = 'http://www.w3.org/2000/svg'
const SAMPLES = 90
const WIDTH = 300
const HEIGHT = 64

export class LineChart {
  #series
  #values
  #paths
  #format
  #floor
  #title
  #now
  #top
  #svg

  /** `series`: names, drawn in the colours --series-1…3. `floor` is the least full scale. */
  constructor({ title, series, format = (n) => String(Math.round(n)), floor = 1 }) {
    this.#title = title
    this.#series = series
    this.#format = format
    this.#floor = floor
    this.#values = series.map(() => [])
    this.#svg = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' })
    this.#paths = series.map((_, index) => {
      const area = svg('path', { class: `area s${index + 1}` })
      const line = svg('path', { class: `line s${index + 1}` })
      this.#svg.append(...(series.length === 1 ? [area, line] : [line]))
      return { area, line }
    })
    this.#now = series.map((name, index) => element('span', { class: `legend s${index + 1}` }, series.length === 1 ? '' : name, element('b')))
    this.#top = element('span', { class: 'scale' })
  }

  get node() {
    return element('figure', { class: 'chart' },
      element('figcaption', {}, element('span', { class: 'chart-title' }, this.#title), ...this.#now),
      element('div', { class: 'plot' }, this.#svg, this.#top),
      element('div', { class: 'axis', 'aria-hidden': 'true' }, element('span', {}, `${SAMPLES} s ago`), element('span', {}, 'now')),
    )
  }

  /** One sample more, a value for each series. */
  push(...sample) {
    const rows = (this.#values[0] ?? []).map((_, at) => this.#values.map((values) => values[at]))
    this.draw([...rows, sample])
  }

  /** All samples anew, oldest first. */
  draw(rows) {
    const shown = rows.slice(-SAMPLES)
    const sample = shown.at(-1)
    if (!sample) return
    this.#values = this.#series.map((_, index) => shown.map((row) => row[index]))
    const top = niceCeiling(Math.max(this.#floor, ...this.#values.flat()))
    this.#values.forEach((values, index) => {
      const { area, line } = this.#paths[index]
      const points = values.map((value, at) => `${(((SAMPLES - values.length + at) * WIDTH) / (SAMPLES - 1)).toFixed(1)},${(HEIGHT - 1 - ((HEIGHT - 4) * value) / top).toFixed(1)}`)
      line.setAttribute('d', `M${points.join('L')}`)
      area.setAttribute('d', `M${points[0].split(',')[0]},${HEIGHT}L${points.join('L')}L${WIDTH},${HEIGHT}Z`)
      this.#now[index].lastElementChild.textContent = this.#format(sample[index])
    })
    this.#top.textContent = this.#format(top)
    this.#svg.setAttribute('aria-label', this.#series.map((name, index) => `${name}: ${this.#format(sample[index])}`).join(', '))
  }
}

function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((step) => step * power).find((step) => step >= value) ?? value
}

function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  return node
}
