// What the service says about itself, once a second: getStats(), getHealthStatus(), getMetrics(),
// and who follows what.

import { LineChart } from './chart.js'
import { $, element } from './dom.js'

const TOP = 5
const LEVELS = ['normal', 'light', 'moderate', 'severe', 'critical']

export class ServicePanel {
  #charts
  #facts = new Map()
  #previous
  #titleOf

  constructor(titleOf) {
    this.#titleOf = titleOf
    const whole = (n) => n.toLocaleString('en', { maximumFractionDigits: 0 })
    const ms = (n) => `${n.toLocaleString('en', { maximumFractionDigits: n < 10 ? 1 : 0 })} ms`
    this.#charts = {
      connections: new LineChart({ title: 'Connections', series: ['Connections'], format: whole, floor: 10 }),
      messages: new LineChart({ title: 'Messages / s', series: ['in', 'published'], format: (n) => n.toFixed(1), floor: 5 }),
      latency: new LineChart({ title: 'Latency', series: ['p50', 'p95', 'p99'], format: ms, floor: 2 }),
      memory: new LineChart({ title: 'Memory', series: ['RSS'], format: (n) => `${whole(n)} MB`, floor: 50 }),
    }
    $('#service-body').replaceChildren(
      element('div', { class: 'charts' }, ...Object.values(this.#charts).map(({ node }) => node)),
      element('div', { class: 'card' },
        element('h3', {}, 'Degradation'),
        element('div', { id: 'level', class: 'level', role: 'img' }, ...LEVELS.map(() => element('i'))),
        element('p', { id: 'level-text', class: 'muted' }),
        element('ul', { id: 'warnings', class: 'warnings' }),
      ),
      element('div', { class: 'card' },
        element('h3', {}, 'Most followed'),
        element('ul', { id: 'topics', class: 'bars' }),
      ),
      element('dl', { class: 'facts card' }, ...[
        'People online', 'Subscriptions', 'Your connections', 'Your bills', 'Messages in', 'Published', 'Dropped', 'Success rate', 'Peak connections', 'Queue', 'Uptime',
      ].map((name) => this.#fact(name))),
    )
  }

  show({ stats, health, metrics, followers, rss, you }) {
    const { messages, performance } = metrics
    const at = Date.now()
    const seconds = this.#previous ? (at - this.#previous.at) / 1000 : 1
    // A restart sets the counters back.
    const rate = (name) => Math.max(0, this.#previous ? (messages[name] - this.#previous[name]) / seconds : 0)
    this.#charts.connections.push(stats.activeConnections)
    this.#charts.messages.push(rate('total'), rate('broadcasts'))
    this.#charts.latency.push(performance.p50Latency, performance.p95Latency, performance.p99Latency)
    this.#charts.memory.push(rss / 1024 / 1024)
    this.#previous = { at, ...messages }

    $('#health').textContent = health.status
    $('#health').dataset.state = health.status
    const level = LEVELS.indexOf(health.degradationLevel)
    $('#level').dataset.level = health.degradationLevel
    $('#level').setAttribute('aria-label', `Level ${level + 1} of ${LEVELS.length}`)
    ;[...$('#level').children].forEach((step, index) => (step.className = index <= level ? 'on' : ''))
    $('#level-text').textContent = level === 0 ? 'Normal operation' : `Reduced operation: ${health.degradationLevel}`
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
