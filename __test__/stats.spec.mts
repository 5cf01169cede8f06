// What the getters say: before, during and after, and always in agreement with what clients have been told.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { WebSocketService, type ServiceStats } from 'carillon'
import { TestServer, options } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const MEGABYTES = /^\d+\.\d\d MB$/
const KILOBYTES = /^\d+\.\d\d KB$/

const FRESH: Omit<ServiceStats, 'startTime' | 'lastActivity'> = {
  totalConnections: 0,
  activeConnections: 0,
  totalMessages: 0,
  totalBroadcasts: 0,
  droppedMessages: 0,
  duplicateMessages: 0,
  queueOverflows: 0,
  reconnections: 0,
  peakConnections: 0,
  uptime: 0,
  averageLatency: 0,
  totalSubscriptions: 0,
  billsWithSubscribers: 0,
  uniqueUsers: 0,
  queueDepth: 0,
  averageConnectionsPerUser: 0,
  connectionPoolSize: 0,
  dedupeCacheSize: 0,
  messageSuccessRate: 1,
}

/** Those of the numbers that are named. */
function some<K extends keyof ServiceStats>(stats: ServiceStats, ...names: K[]): Pick<ServiceStats, K> {
  return Object.fromEntries(names.map((name) => [name, stats[name]])) as Pick<ServiceStats, K>
}

const keysOf = (value: object): unknown =>
  Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, typeof member === 'object' && !Array.isArray(member) ? keysOf(member) : typeof member]),
  )

/** What names no user and no bill finds nothing; what cannot be a name is the caller's mistake. */
function findsNothing(service: WebSocketService): void {
  for (const user of [undefined, null, '', 'x']) {
    assert.deepEqual(service.getUserSubscriptions(user as never), [])
    assert.equal(service.isUserConnected(user as never), false)
    assert.equal(service.getConnectionCount(user as never), 0)
  }
  for (const bill of [undefined, null, 0, -1, NaN, 1.5]) assert.deepEqual(service.getBillSubscribers(bill as never), [])
  for (const wrong of [{}, [], Symbol('s'), 7n, true]) {
    for (const name of ['getUserSubscriptions', 'isUserConnected', 'getConnectionCount', 'getBillSubscribers'] as const) {
      assert.throws(() => service[name](wrong as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT' })
    }
  }
}

describe('before initialize and after shutdown', () => {
  const check = (service: WebSocketService): void => {
    findsNothing(service)
    assert.deepEqual(service.getAllConnectedUsers(), [])
    assert.equal(service.broadcastBillUpdate(1, { type: 'amendment', data: {}, timestamp: new Date() }), undefined)
    assert.equal(service.sendUserNotification('ann', { type: 't', title: 't', message: 'm' }), undefined)
    assert.equal(service.broadcastToAll({ type: 't', data: {} }), undefined)
    assert.equal(service.cleanup(), undefined)
    assert.equal(service.cleanup(), undefined)
    assert.equal(service.state, 'stopped')
  }

  it('everything may be called', async () => {
    const service = new WebSocketService(options())
    check(service)
    assert.equal(await service.shutdown(), undefined)
    check(service)
  })

  it('unknown users and bills find nothing while it runs either', async (test) => {
    const { service } = await TestServer.open(test)
    findsNothing(service)
  })

  it('a fresh service has counted nothing', () => {
    const earliest = Date.now()
    const service = new WebSocketService(options())
    const { startTime, lastActivity, ...stats } = service.getStats()
    assert.deepEqual(stats, FRESH)
    for (const time of [startTime, lastActivity]) assert.ok(time >= earliest && time <= Date.now(), String(time))
  })

  it('nothing is there any more, but what was counted stays', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1, 2)
    site.service.broadcastBillUpdate(1, { type: 'amendment', data: {}, timestamp: new Date() })
    await client.take('bill_update')
    await site.service.shutdown()
    check(site.service)
    const stats = site.service.getStats()
    assert.deepEqual(
      some(stats, 'activeConnections', 'uniqueUsers', 'connectionPoolSize', 'totalSubscriptions', 'billsWithSubscribers', 'queueDepth', 'averageConnectionsPerUser'),
      { activeConnections: 0, uniqueUsers: 0, connectionPoolSize: 0, totalSubscriptions: 0, billsWithSubscribers: 0, queueDepth: 0, averageConnectionsPerUser: 0 },
    )
    assert.deepEqual(some(stats, 'totalConnections', 'peakConnections', 'totalMessages', 'totalBroadcasts'), {
      totalConnections: 1, peakConnections: 1, totalMessages: 1, totalBroadcasts: 1,
    })
  })
})

describe('getStats', () => {
  it('counts connections, users and subscriptions', async (test) => {
    const site = await TestServer.open(test)
    const first = await site.follower('ann', 1, 2)
    await site.follower('ann', 2, 3)
    await site.follower('bob', 3)
    const names = ['totalConnections', 'activeConnections', 'peakConnections', 'uniqueUsers', 'connectionPoolSize', 'averageConnectionsPerUser', 'totalSubscriptions', 'billsWithSubscribers'] as const
    assert.deepEqual(some(site.service.getStats(), ...names), {
      totalConnections: 3, activeConnections: 3, peakConnections: 3, uniqueUsers: 2, connectionPoolSize: 2,
      averageConnectionsPerUser: 1.5, totalSubscriptions: 4, billsWithSubscribers: 3,
    })
    await first.close(1000)
    assert.deepEqual(some(site.service.getStats(), ...names), {
      totalConnections: 3, activeConnections: 2, peakConnections: 3, uniqueUsers: 2, connectionPoolSize: 2,
      averageConnectionsPerUser: 1, totalSubscriptions: 3, billsWithSubscribers: 2,
    })
  })

  it('counts messages, broadcasts and duplicates', async (test) => {
    const site = await TestServer.open(test)
    site.service.broadcastToAll({ type: 'to nobody', data: {} })
    assert.equal(site.service.getStats().totalBroadcasts, 1)
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 1 })
    client.sendText('not JSON')
    client.sendText('null')
    client.send('nonsense')
    await client.probe()
    const update = { type: 'amendment', data: {}, timestamp: new Date() }
    site.service.broadcastBillUpdate(1, update)
    site.service.broadcastBillUpdate(1, update)
    site.service.broadcastBillUpdate(2, update)
    site.service.sendUserNotification('ann', { type: 't', title: 't', message: 'm' })
    site.service.broadcastToAll({ type: 'announcement', data: {} })
    assert.deepEqual(some(site.service.getStats(), 'totalMessages', 'totalBroadcasts', 'duplicateMessages', 'dedupeCacheSize', 'droppedMessages', 'messageSuccessRate'), {
      totalMessages: 5, totalBroadcasts: 3, duplicateMessages: 1, dedupeCacheSize: 2, droppedMessages: 0, messageSuccessRate: 1,
    })
  })

  it('does not count who was not let in', async (test) => {
    const site = await TestServer.open(test)
    for (const token of [undefined, 'x', tokenOf('ann', { key: 'other' })]) await site.status(token)
    const { startTime: _, lastActivity: __, uptime: ___, ...stats } = site.service.getStats()
    const { uptime: ____, ...fresh } = FRESH
    assert.deepEqual(stats, fresh)
  })

  it('moves lastActivity with connections, messages and counted broadcasts', async (test) => {
    const site = await TestServer.open(test)
    const moved = async (action: () => unknown): Promise<void> => {
      const before = Date.now()
      await action()
      const { lastActivity } = site.service.getStats()
      assert.ok(lastActivity >= before && lastActivity <= Date.now(), `${lastActivity - before} ms`)
    }
    await moved(() => site.connect('ann'))
    const client = await site.connect('ann')
    await moved(() => client.probe())
    await moved(() => site.service.broadcastToAll({ type: 'announcement', data: {} }))
  })

  it('averages the newest latencies', async (test) => {
    const site = await TestServer.open(test, { base: { MAX_LATENCY_SAMPLES: 3 } })
    const client = await site.connect('ann')
    const send = async (...ages: number[]): Promise<void> => {
      for (const age of ages) client.send('unsubscribe', {}, { timestamp: Date.now() - age })
      await client.probe()
    }
    await send(-10_000, 60_001, 1e9)
    assert.equal(site.service.getStats().averageLatency, 0, 'neither the future nor the distant past')
    client.sendText(JSON.stringify({ timestamp: Date.now() - 1000 }))
    await client.take('error')
    const { averageLatency } = site.service.getStats()
    assert.ok(averageLatency >= 1000 && averageLatency < 1500, `even without a type: ${averageLatency}`)
    await send(50_000, 2000, 2000, 2000)
    const { performance } = site.service.getMetrics()
    for (const latency of [performance.averageLatency, performance.p50Latency, performance.p95Latency, performance.p99Latency]) {
      assert.ok(latency >= 2000 && latency < 3000, `${latency}`)
    }
  })

  it('counts a user who comes back as a reconnection', async (test) => {
    const site = await TestServer.open(test)
    const reconnections = (): number => site.service.getStats().reconnections
    const first = await site.connect('ann')
    const second = await site.connect('ann')
    await first.close(1000)
    await site.connect('ann')
    assert.equal(reconnections(), 0, 'the user was here all the time')
    await site.connect('bob')
    assert.equal(reconnections(), 0)
    const gone = site.event('disconnection')
    second.socket.terminate()
    await gone
    assert.equal(reconnections(), 0)
    const cleo = await site.connect('cleo')
    await cleo.close(1000)
    await site.connect('cleo')
    assert.equal(reconnections(), 1)
    await site.connect('cleo')
    assert.equal(reconnections(), 1)
    assert.equal(site.service.getMetrics().connections.reconnections, 1)
  })
})

describe('the getters', () => {
  it('know a subscription when its confirmation has arrived, and its end likewise', async (test) => {
    const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_DELAY: 0 } })
    const client = await site.connect('ann')
    for (let bill = 1; bill <= 100; bill++) {
      client.send('subscribe', { bill_id: bill })
      await client.take('subscribed')
      assert.deepEqual(site.service.getBillSubscribers(bill), ['ann'])
      assert.equal(site.service.getUserSubscriptions('ann').at(-1), bill)
    }
    for (let bill = 1; bill <= 100; bill++) {
      client.send('unsubscribe', { bill_id: bill })
      await client.take('unsubscribed')
      assert.deepEqual(site.service.getBillSubscribers(bill), [])
      assert.equal(site.service.getUserSubscriptions('ann').length, 100 - bill)
    }
  })

  it('know a connection when it is open, and its end when the closing is complete', async (test) => {
    const site = await TestServer.open(test, { threads: 2 })
    for (let round = 1; round <= 50; round++) {
      const client = await site.connect('ann')
      assert.equal(site.service.getConnectionCount('ann'), 1)
      assert.equal(site.service.isUserConnected('ann'), true)
      assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
      client.send('subscribe', { bill_id: 1 })
      await client.close(1000)
      assert.equal(site.service.getConnectionCount('ann'), 0)
      assert.equal(site.service.isUserConnected('ann'), false)
      assert.deepEqual(site.service.getAllConnectedUsers(), [])
      assert.deepEqual(site.service.getBillSubscribers(1), [])
      assert.equal(site.service.getStats().activeConnections, 0)
    }
    assert.equal(site.service.getStats().totalConnections, 50)
  })

  it('list bills in the order they were followed, and users in the order they came', async (test) => {
    const site = await TestServer.open(test, { threads: 3 })
    for (const user of ['zoe', 'ann', 'zoe', 'bob']) await site.connect(user)
    assert.deepEqual(site.service.getAllConnectedUsers(), ['zoe', 'ann', 'bob'])
    const client = await site.follower('cleo', 9, 3, 7)
    await client.subscribe(1, 3)
    assert.deepEqual(site.service.getUserSubscriptions('cleo'), [9, 3, 7, 1])
    await client.unsubscribe(3)
    await client.subscribe(3)
    assert.deepEqual(site.service.getUserSubscriptions('cleo'), [9, 7, 1, 3])
    const other = await site.follower('cleo', 5, 9)
    assert.deepEqual([...site.service.getUserSubscriptions('cleo')].sort(), [1, 3, 5, 7, 9])
    assert.deepEqual(site.service.getBillSubscribers(9), ['cleo'])
    assert.equal(site.service.getBillSubscribers(9.5).length, 0)
    await other.close(1000)
    assert.deepEqual([...site.service.getUserSubscriptions('cleo')].sort(), [1, 3, 7, 9])
  })
})

describe('the reports', () => {
  it('getHealthStatus: idle is not ill', async (test) => {
    const site = await TestServer.open(test)
    const health = site.service.getHealthStatus()
    assert.equal(health.isHealthy, true)
    assert.equal(health.status, 'healthy')
    assert.equal(health.degradationLevel, 'normal')
    assert.deepEqual(health.warnings, [])
    assert.match(health.timestamp, ISO)
    assert.equal(health.uptime, 0)
    assert.equal(health.timeSinceLastActivity, 0)
    assert.deepEqual(Object.keys(health.stats).sort(), Object.keys(site.service.getStats()).sort())
    assert.deepEqual(Object.keys(health.memoryUsage).sort(), ['external', 'heapTotal', 'heapUsed', 'rss'])
    for (const amount of Object.values(health.memoryUsage)) assert.match(amount, MEGABYTES)
    assert.ok(health.heapUsedPercent > 0 && health.heapUsedPercent <= 100)
  })

  it('getHealthStatus: a latency that only a client tells of is told, and no symptom', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    client.send('unsubscribe', {}, { timestamp: Date.now() - 5000 })
    await client.probe()
    const { warnings, status, stats } = site.service.getHealthStatus()
    assert.ok(stats.averageLatency >= 5000, `${stats.averageLatency} ms`)
    assert.deepEqual({ warnings, status }, { warnings: [], status: 'healthy' })
  })

  it('getMetrics: the same numbers, in groups', async (test) => {
    const site = await TestServer.open(test)
    await site.follower('ann', 1, 2)
    await site.follower('bob', 2)
    await site.connect('cleo')
    const { history: _, ...metrics } = site.service.getMetrics()
    assert.deepEqual(metrics, {
      connections: { active: 3, peak: 3, total: 3, reconnections: 0 },
      messages: { total: 2, dropped: 0, duplicates: 0, broadcasts: 0 },
      performance: {
        averageLatency: 0, p50Latency: 0, p95Latency: 0, p99Latency: 0, queueDepth: 0, queueOverflows: 0, messageSuccessRate: 1,
      },
      subscriptions: { totalBills: 2, totalSubscriptions: 3, usersWithSubscriptions: 2 },
    })
  })

  it('forceMemoryAnalysis: every number and every size', async (test) => {
    const site = await TestServer.open(test)
    await site.follower('ann', 1, 2)
    const analysis = site.service.forceMemoryAnalysis()
    assert.deepEqual(keysOf(analysis), {
      timestamp: 'string',
      connections: { active: 'number', total: 'number', peak: 'number', poolSize: 'number', memoryUsage: 'string' },
      subscriptions: { billSubscriptions: 'number', userSubscriptions: 'number', totalSubscriptions: 'number', memoryUsage: 'string' },
      messages: { totalProcessed: 'number', broadcasts: 'number', dropped: 'number', duplicates: 'number', dedupeCacheSize: 'number', dedupeCacheMemory: 'string' },
      performance: { averageLatency: 'number', queueDepth: 'number', queueOverflows: 'number', queueMemory: 'string', bufferMemory: 'string' },
      memory: { heapUsed: 'string', heapTotal: 'string', external: 'string', rss: 'string', heapUsedPercent: 'string' },
      warnings: 'object',
    })
    const { connections, subscriptions, messages, performance, memory } = analysis
    const { memoryUsage: ofConnections, ...connectionCounts } = connections
    assert.deepEqual(connectionCounts, { active: 1, total: 1, peak: 1, poolSize: 1 })
    const { memoryUsage: ofSubscriptions, ...subscriptionCounts } = subscriptions
    assert.deepEqual(subscriptionCounts, { billSubscriptions: 2, userSubscriptions: 1, totalSubscriptions: 2 })
    // Measured, not estimated: one connection and its user take some hundreds of bytes, and so do two bills.
    for (const size of [ofConnections, ofSubscriptions]) {
      assert.match(String(size), KILOBYTES)
      assert.ok(parseFloat(String(size)) > 0.2 && parseFloat(String(size)) < 8, String(size))
    }
    assert.equal(messages['totalProcessed'], 1)
    for (const size of [messages['dedupeCacheMemory'], performance['queueMemory'], performance['bufferMemory']]) assert.match(String(size), KILOBYTES)
    const { heapUsedPercent, ...sizes } = memory
    assert.match(String(heapUsedPercent), /^\d+\.\d\d%$/)
    for (const size of Object.values(sizes)) assert.match(size, MEGABYTES)
    assert.deepEqual(analysis.warnings, [])
    assert.match(analysis.timestamp, ISO)
  })

  it('may be asked for at any time', () => {
    const service = new WebSocketService(options())
    assert.equal(service.getHealthStatus().isHealthy, true)
    assert.equal(service.getMetrics().connections.active, 0)
    assert.deepEqual(service.forceMemoryAnalysis().warnings, [])
  })
})
