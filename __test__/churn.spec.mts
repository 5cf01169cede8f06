// Connections come and go by the thousand, each with a subscription, each leaving in a way of its own. In the end the
// process is what it was. `npm run test:churn` does it with fifty thousand, CARILLON_CHURN with as many as it says.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { Host } from './support/host.mjs'
import { closeFrame, text, upgradeRequest } from './support/raw.mjs'
import { withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

const TOTAL = Number(process.env['CARILLON_CHURN'] ?? (process.env['npm_lifecycle_event'] === 'test:churn' ? 50_000 : 5000))
/** After these the process has grown to what it needs. */
const SETTLING = Math.max(2000, TOTAL / 10)
const AT_ONCE = Math.min(2000, TOTAL / 5)
const USERS = 500
const BILL = 1

const WAYS = ['close frame', 'end', 'destroy', 'reset'] as const
const requests = Array.from({ length: USERS }, (_, user) =>
  Buffer.concat([
    Buffer.from(upgradeRequest(withToken(tokenOf(`user ${user}`)))),
    text({ type: 'subscribe', data: { bill_id: BILL } }),
    text({ type: 'batch_subscribe', data: { bill_ids: [1000 + user, 2000 + (user % 7)] } }),
  ]),
)

/** One connection from its request to its end; it stays until `leave` says so. */
function visit(port: number, index: number, leave: Promise<void>): { subscribed: Promise<void>; gone: Promise<void> } {
  // Many addresses, since ports that have just been used are not free again at once.
  const socket = connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${2 + (index % 50)}` })
  socket.write(requests[index % USERS] as Buffer)
  let received = ''
  let isIn = false
  const subscribed = new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk) => {
      if (isIn) return
      received += chunk.toString('latin1')
      if (!received.includes('"batch_subscribed"')) return
      isIn = true
      received = ''
      resolve()
    })
    socket.once('close', () => reject(new Error(`connection ${index} was ended after: ${received.slice(0, 100)}`)))
    socket.on('error', () => {})
  })
  const gone = subscribed.then(async () => {
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    await leave
    const way = WAYS[index % WAYS.length]
    if (way === 'close frame') socket.write(closeFrame(1000, 'Client disconnect'))
    else if (way === 'end') socket.end()
    else if (way === 'destroy') socket.destroy()
    else socket.resetAndDestroy()
    await closed
  })
  return { subscribed, gone }
}

/** Connects `count` times, at most so many at once, and waits until all have left. */
async function churn(port: number, count: number): Promise<void> {
  for (let first = 0; first < count; first += AT_ONCE) {
    const size = Math.min(AT_ONCE, count - first)
    let leave = (): void => {}
    const leaving = new Promise<void>((resolve) => (leave = resolve))
    const visits: Array<ReturnType<typeof visit>> = []
    // A few at a time, so that none waits in the listen queue.
    for (let index = 0; index < size; index += 100) {
      const handful = Array.from({ length: Math.min(100, size - index) }, (_, offset) => visit(port, first + index + offset, leaving))
      await Promise.all(handful.map(({ subscribed }) => subscribed))
      visits.push(...handful)
    }
    leave()
    await Promise.all(visits.map(({ gone }) => gone))
  }
}

describe('churn', () => {
  it(`of ${TOTAL} connections leaves the process as it was`, { skip: process.platform !== 'linux', timeout: 280_000 }, async (test) => {
    const host = await Host.start(test, { runtime: { MAX_CONNECTIONS_PER_USER: 100 } })
    const atStart = await host.report(BILL)
    const empty = ({ stats, descriptors }: Awaited<ReturnType<Host['report']>>): boolean =>
      stats.activeConnections === 0 && descriptors <= atStart.descriptors
    await churn(host.port, SETTLING)
    const settled = await host.reportWhen(empty, 'the end of all connections')
    await churn(host.port, TOTAL - SETTLING)
    const after = await host.reportWhen(empty, 'the end of all connections')

    assert.equal(after.stats.totalConnections, TOTAL)
    const { activeConnections, uniqueUsers, totalSubscriptions, billsWithSubscribers, connectionPoolSize, queueDepth } = after.stats
    assert.deepEqual(
      { activeConnections, uniqueUsers, totalSubscriptions, billsWithSubscribers, connectionPoolSize, queueDepth, users: after.users, subscribers: after.subscribers },
      { activeConnections: 0, uniqueUsers: 0, totalSubscriptions: 0, billsWithSubscribers: 0, connectionPoolSize: 0, queueDepth: 0, users: 0, subscribers: 0 },
    )
    assert.equal(after.analysis.performance['bufferMemory'], '0.00 KB')
    assert.equal(after.stats.peakConnections <= AT_ONCE, true, `${after.stats.peakConnections} at once`)
    const growth = after.rss / settled.rss - 1
    test.diagnostic(`resident memory: ${mebibytes(atStart.rss)} at first, ${mebibytes(settled.rss)} settled, ${mebibytes(after.rss)} at last`)
    assert.ok(growth < 0.1, `resident memory has grown by ${(growth * 100).toFixed(1)} %`)
    await host.stop()
  })
})

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
