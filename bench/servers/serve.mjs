// What every server in JavaScript has in common: it takes orders as JSON lines on standard input, answers on standard output,
// and knows how late its event loop runs. Works in Node and in Bun. See ../README.md for the orders.

import { createInterface } from 'node:readline'

/** How often the loop is asked whether it is in time. */
const TICK_MS = 5

let filler = ''

/** The object an application publishes; each server makes of it what goes on the wire. */
function contents(topic, n) {
  if (topic === 0) return { type: 'bench', data: { n, filler } }
  return { type: 'status_change', data: { n, filler }, timestamp: new Date() }
}

/** What Carillon sends for `contents`, for the servers that must build it themselves. */
export function message(topic, contents) {
  if (topic === 0) return { ...contents, timestamp: new Date(), priority: 'immediate' }
  return { type: 'bill_update', bill_id: topic, update: contents, timestamp: contents.timestamp }
}

export function greeting(user) {
  return { type: 'connected', message: 'WebSocket connection established', data: { user_id: user, connectionId: `${user}-0` } }
}

/** The answer to what a client sends. `subscribe` is called with every bill. */
export function reply({ type, data }, subscribe) {
  if (type === 'ping') return { type: 'pong', priority: 'immediate' }
  if (type === 'subscribe') {
    subscribe(data.bill_id)
    return { type: 'subscribed', data: { bill_id: data.bill_id, message: `Subscribed to bill ${data.bill_id} updates` } }
  }
  if (type === 'batch_subscribe') {
    data.bill_ids.forEach(subscribe)
    return { type: 'batch_subscribed', data: { subscribed: data.bill_ids, failed: [] } }
  }
  return { type: 'error', message: `Unknown message type: ${type}` }
}

/** `publish(topic, contents)` sends to a bill's subscribers, or to everybody for topic 0. */
export function serve(port, { publish, usage = () => ({}) }) {
  const lateness = process.env.BENCH_LOOP === 'off' ? { take: () => ({}) } : watchLoop()
  const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
  const orders = {
    filler: ({ text }) => (filler = text),
    publish({ topic, n, count }) {
      for (let index = 0; index < count; index += 1) publish(topic, contents(topic, n + index))
    },
    usage() {
      globalThis.gc?.()
      globalThis.Bun?.gc(true)
      answer({ ...usage(), heap: process.memoryUsage().heapUsed, loop: lateness.take() })
    },
    cost: async (order) => answer(await cost(publish, order)),
  }
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    const order = JSON.parse(line)
    orders[order.do](order)
  })
  lines.on('close', () => process.exit())
  answer({ port, runtime: globalThis.Bun ? `Bun ${globalThis.Bun.version}` : `Node.js ${process.version}` })
}

/** Medians of what one call costs the JavaScript thread, in microseconds: they leave out calls that were interrupted. */
async function cost(publish, { calls, rounds }) {
  const publishing = []
  const stringifying = []
  let n = 1e9
  for (let round = 0; round < rounds; round += 1) {
    const objects = Array.from({ length: calls }, () => contents(0, (n += 1)))
    for (const object of objects) publishing.push(timed(() => publish(0, object)))
    for (const object of objects) stringifying.push(timed(() => JSON.stringify(object)))
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return { publish: median(publishing), stringify: median(stringifying) }
}

function timed(action) {
  const begun = performance.now()
  action()
  return (performance.now() - begun) * 1000
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]

/**
 * Milliseconds by which the event loop is late, as a caller who comes at any time would see it: a pause counts once for every
 * tick that fell into it.
 */
function watchLoop() {
  let late = []
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    for (let delay = now - last - TICK_MS; delay > 0; delay -= TICK_MS) late.push(delay)
    late.push(0)
    last = now
  }, TICK_MS)
  timer.unref()
  return {
    take() {
      const sorted = late.sort((a, b) => a - b)
      const at = (share) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0
      const taken = { p50: at(0.5), p99: at(0.99), max: at(1) }
      late = []
      last = performance.now()
      return taken
    },
  }
}
