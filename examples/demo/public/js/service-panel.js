// What the service says about itself, once a second: getStats(), getHealthStatus(), getMetrics() with its history,
// and who follows what. Memory pressure can be rehearsed.

import { LineChart } from './chart.js'
import { $, element } from './dom.js'

const TOP = 5
const LEVELS = ['normal', 'light', 'moderate', 'severe', 'critical']
const SOURCES = { container: "the container's limit", heap: "V8's heap limit", machine: "the machine's memory", report: 'a report' }
/** What reportMemoryPressure() is told; the last takes it back. */
const REHEARSALS = [['Report 90 %', 0.9], ['Report 97 %', 0.97], ['Report 0 %', 0]]

export class ServicePanel {
  #charts
  #facts = new Map()
  #titleOf
  #rehearse

  /** `rehearse` is called with the pressure to rehearse. */
  constructor(titleOf, rehearse) {
    this.#titleOf = titleOf
    this.#rehearse = rehearse
    const whole = (n) => n.toLocaleString('en', { maximumFractionDigits: 0 })
    const ms = (n) => `${n.toLocaleString('en', { maximumFractionDigits: n < 10 ? 1 : 0 })} ms`
    this.#charts = {
      connections: new LineChart({ title: 'Connections', series: ['Connections'], format: whole, floor: 10 }),
      messages: new LineChart({ title: 'Messages / s', series: ['in', 'delivered'], format: (n) => n.toFixed(n < 10 ? 1 : 0), floor: 5 }),
      latency: new LineChart({ title: 'Latency', series: ['p50', 'p95', 'p99'], format: ms, floor: 2 }),
      memory: new LineChart({ title: 'Memory of the process', series: ['RSS'], format: (n) => `${whole(n)} MiB`, floor: 50 }),
      pressure: new LineChart({ title: 'Memory pressure', series: ['Pressure'], format: (n) => `${whole(n)} %`, floor: 100 }),
    }
    $('#service-body').replaceChildren(
      element('div', { class: 'card' },
        element('h3', {}, 'Degradation'),
        element('div', { id: 'level', class: 'level', role: 'img' }, ...LEVELS.map(() => element('i'))),
        element('p', { id: 'level-text', class: 'muted' }),
        element('p', { id: 'pressure', class: 'muted' }),
        element('p', { id: 'rehearse-title', class: 'rehearse-title muted' }, 'Try it: report memory pressure'),
        element('div', { class: 'rehearse', role: 'group', 'aria-labelledby': 'rehearse-title' },
          ...REHEARSALS.map(([name, pressure]) => this.#rehearsal(name, pressure)),
        ),
        element('ul', { id: 'warnings', class: 'warnings' }),
      ),
      element('div', { class: 'charts' }, ...Object.values(this.#charts).map(({ node }) => node)),
      element('div', { class: 'card' },
        element('h3', {}, 'Most followed'),
        element('ul', { id: 'topics', class: 'bars' }),
      ),
      element('dl', { class: 'facts card' }, ...[
        'People online', 'Subscriptions', 'Your connections', 'Your bills', 'Messages in', 'Published', 'Dropped', 'Success rate', 'Peak connections', 'Queue', 'Uptime',
      ].map((name) => this.#fact(name))),
    )
  }

  show({ stats, health, metrics, followers, you }) {
    const { messages, performance, history } = metrics
    this.#charts.connections.draw(history.map((second) => [second.connections]))
    this.#charts.messages.draw(history.map((second) => [second.messagesPerSecond, second.deliveriesPerSecond]))
    this.#charts.latency.push(performance.p50Latency, performance.p95Latency, performance.p99Latency)
    this.#charts.memory.draw(history.map((second) => [second.residentBytes / 2 ** 20]))
    this.#charts.pressure.draw(history.map((second) => [second.memoryPressure * 100]))

    $('#health').textContent = health.status
    $('#health').dataset.state = health.status
    const level = LEVELS.indexOf(health.degradationLevel)
    $('#level').dataset.level = health.degradationLevel
    $('#level').setAttribute('aria-label', `Level ${level + 1} of ${LEVELS.length}`)
    ;[...$('#level').children].forEach((step, index) => (step.className = index <= level ? 'on' : ''))
    $('#level-text').textContent = level === 0 ? 'Normal operation' : `Reduced operation: ${health.degradationLevel}`
    const { memoryPressure: pressure } = health
    $('#pressure').textContent = pressure ? `Memory pressure ${(100 * pressure.ratio).toFixed(0)} %, by ${SOURCES[pressure.source]}` : 'Memory pressure is not known yet'
    $('#warnings').replaceChildren(...health.warnings.map((text) => element('li', {}, text)))

    const ranked = Object.entries(followers).sort(([, a], [, b]) => b - a).slice(0, TOP)
    const most = Math.max(1, ...Object.values(followers))
    $('#topics').replaceChildren(...ranked.map(([billId, count]) => {
      const bar = element('li', {}, element('span', {}, this.#titleOf(Number(billId))), element('b', {}, String(count)))
      bar.style.setProperty('--share', `${(100 * count) / most}%`)
      return bar
    }))

    const facts = {
      'People online': stats.uniqueUsers, Subscriptions: stats.totalSubscriptions,
      'Your connections': you.connections, 'Your bills': you.follows,
      'Messages in': messages.total, Published: messages.broadcasts, Dropped: messages.dropped,
      'Success rate': `${(100 * performance.messageSuccessRate).toFixed(1)} %`,
      'Peak connections': stats.peakConnections, Queue: performance.queueDepth,
      Uptime: duration(stats.uptime),
    }
    for (const [name, value] of Object.entries(facts)) this.#facts.get(name).textContent = typeof value === 'number' ? value.toLocaleString('en') : value
  }

  unreachable() {
    $('#health').textContent = 'unreachable'
    $('#health').dataset.state = 'unhealthy'
  }

  #rehearsal(name, pressure) {
    const button = element('button', { type: 'button', class: 'button quiet', 'data-pressure': String(pressure) }, name)
    button.addEventListener('click', () => this.#rehearse(pressure))
    return button
  }

  #fact(name) {
    const value = element('dd', {}, '–')
    this.#facts.set(name, value)
    return element('div', {}, element('dt', {}, name), value)
  }
}

function duration(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return parts.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, '0'))).join(':')
}
