// What operators see: the Prometheus text, inspect(), the health with its reasons and its event, the example's rules.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { WebSocketService, type HealthStatus, type Inspection } from 'carillon'
import { TRANSPORT, TestServer, options, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { MANDATORY, ROOT } from './support/tools.mjs'
import { eventually, within } from './support/waiting.mjs'

const EXAMPLE = join(ROOT, 'examples', 'monitoring')

/** The value of a sample, by its name with labels. */
function sample(text: string, series: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

/** Says why and skips where promtool is missing, which it must not be in CI. */
function hasPromtool(test: TestContext): boolean {
  const found = spawnSync('promtool', ['--version']).status === 0
  if (!found && MANDATORY) assert.fail('promtool is not installed (Debian package prometheus)')
  if (!found) test.skip('promtool is not installed (Debian package prometheus)')
  return found
}

describe('metricsText()', () => {
  it('is what promtool takes for good metrics', async (test) => {
    if (!hasPromtool(test)) return
    const site = await TestServer.open(test)
    await site.follower('ann', 1)
    const text = site.service.metricsText()
    assert.equal(execFileSync('promtool', ['check', 'metrics'], { input: text }).toString(), '')
  })

  it('is there before and after a run, too', async (test) => {
    const site = await TestServer.open(test)
    await site.connect('ann')
    await site.service.shutdown()
    for (const service of [new WebSocketService(options()), site.service]) {
      assert.equal(sample(service.metricsText(), 'carillon_connections'), 0)
    }
    assert.equal(sample(site.service.metricsText(), 'carillon_connections_opened_total'), 1)
  })

  it('counts each close and each refusal under its reason alone', async (test) => {
    const site = await TestServer.open(test, { messageRate: 1, messageBurst: 4 })
    const closed = (reason: string): number | undefined => sample(site.service.metricsText(), `carillon_connections_closed_total{reason="${reason}"}`)
    const [polite, leaving, rude, hasty] = [await site.connect('a'), await site.connect('b'), await site.connect('c'), await site.connect('d')]
    await polite.close(1000)
    await leaving.close(1001)
    rude.socket.terminate()
    for (let count = 0; count < 20; count += 1) hasty.socket.send('{"type":"ping"}')
    assert.equal((await hasty.whenClosed()).code, 1008)
    await eventually(() => closed('lost') === 1, 'the lost connection is counted')
    for (const reason of ['peer_normal', 'peer_going_away', 'lost', 'rate_limited']) assert.equal(closed(reason), 1, reason)
    assert.equal(await site.status('not a token'), 401)
    assert.equal(await site.status(tokenOf('ann', { key: 'another' })), 401)
    assert.equal((await site.requestUpgrade({ ...withToken(tokenOf('ann')), method: 'POST' })).response.status, 405)
    const text = site.service.metricsText()
    const total = (name: string): number =>
      text.split('\n').filter((line) => line.startsWith(`${name}{`)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    assert.equal(total('carillon_connections_closed_total'), 4)
    assert.equal(total('carillon_handshakes_rejected_total'), 3)
    assert.equal(sample(text, 'carillon_handshakes_rejected_total{reason="unauthorized"}'), 2)
    assert.ok((sample(text, 'carillon_messages_rate_limited_total') ?? 0) >= 5)
  })

  it('counts what was delivered, and how long that took', async (test) => {
    const site = await TestServer.open(test)
    const [ann, bob] = [await site.follower('ann', 7), await site.follower('bob', 7)]
    const before = site.service.metricsText()
    const rise = (text: string, series: string): number => (sample(text, series) ?? NaN) - (sample(before, series) ?? NaN)
    for (let count = 0; count < 5; count += 1) {
      site.service.broadcastBillUpdate(7, { type: 'new_comment', data: { count }, timestamp: new Date() })
    }
    await Promise.all([ann.takeMany('bill_update', 5), bob.takeMany('bill_update', 5)])
    await eventually(() => rise(site.service.metricsText(), 'carillon_publish_latency_seconds_count') === 5, 'five publishes are timed')
    const text = site.service.metricsText()
    assert.equal(rise(text, 'carillon_deliveries_total'), 10)
    assert.equal(rise(text, 'carillon_broadcasts_total'), 5)
    assert.ok(rise(text, 'carillon_sent_bytes_total') > 10 * 50)
    assert.ok((sample(before, 'carillon_received_bytes_total') ?? 0) > 0)
  })

  it('shows the hooks and their circuits', async (test) => {
    const lookupUser = (): never => {
      throw new Error('gone')
    }
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 40 })
    for (let count = 0; count < 6; count += 1) await site.status(tokenOf(`user-${count}`))
    const text = site.service.metricsText()
    assert.equal(sample(text, 'carillon_hook_calls_total{hook="lookupUser",outcome="failed"}'), 5)
    assert.equal(sample(text, 'carillon_hook_calls_total{hook="lookupUser",outcome="circuit_open"}'), 1)
    assert.equal(sample(text, 'carillon_circuit_breaker_state{hook="lookupUser"}'), 2)
    assert.equal(sample(text, 'carillon_circuit_breaker_state{hook="preferences.load"}'), 0)
    assert.equal(sample(text, 'carillon_handshakes_rejected_total{reason="circuit_open"}'), 1)
  })

  it('names no user and no topic', async (test) => {
    const site = await TestServer.open(test)
    await site.follower('zebulon', 987_654)
    const text = site.service.metricsText()
    assert.doesNotMatch(text, /zebulon|987654/)
  })
})

describe('getMetrics().history', () => {
  it('has a sample for each second', async (test) => {
    const site = await TestServer.open(test, { base: { PERFORMANCE_HISTORY_MAX_SIZE: 2 } })
    await site.connect('ann')
    const history = (): Array<Record<string, number>> => site.service.getMetrics().history as never
    await eventually(() => history().length === 2, 'two seconds have passed')
    for (const second of history()) {
      assert.equal(second['connections'], 1)
      for (const [name, value] of Object.entries(second)) assert.ok(Number.isFinite(value), name)
    }
  })
})

describe('inspect()', () => {
  it('tells of shards and of the largest topics, as many as asked for', async (test) => {
    const site = await TestServer.open(test, { threads: 2 })
    for (const user of ['a', 'b', 'c']) await site.follower(user, 1, ...(user === 'a' ? [] : [2]), ...(user === 'c' ? [3] : []))
    const settled = ({ largestTopics, shards }: Inspection): boolean =>
      largestTopics[0]?.subscribers === 3 && shards.reduce((sum, shard) => sum + shard.connections, 0) === 3
    await eventually(() => settled(site.service.inspect()), 'the shards have told')
    const found = site.service.inspect({ top: 2 })
    assert.deepEqual(found.largestTopics, [{ billId: 1, subscribers: 3 }, { billId: 2, subscribers: 2 }])
    assert.deepEqual(found.shards.map(({ id }) => id), [0, 1])
    assert.deepEqual(found.slowestConsumers, [])
    assert.equal(found.degradationLevel, 'normal')
  })

  it('names the connections that do not read', async (test) => {
    const site = await TestServer.open(test, { compression: false, slowConsumer: 'drop-newest', maxBackpressure: 1024 * 1024 })
    const slow = await site.connect('slow')
    slow.socket.pause()
    await site.connect('fast')
    const data = { text: 'x'.repeat(100_000) }
    for (let count = 0; count < 100; count += 1) site.service.broadcastToAll({ type: 'news', data: { ...data, count } })
    await eventually(() => site.service.inspect().slowestConsumers[0]?.userId === 'slow', 'the slow one is found')
    await eventually(() => (site.service.inspect().slowestConsumers[0]?.dropped ?? 0) > 0, 'what it lost is counted')
    const [first] = site.service.inspect({ top: 1 }).slowestConsumers
    assert.match(first?.connectionId ?? '', /^slow-\d+$/)
    // Node takes what a bridged connection has, until its own buffers are full.
    assert.ok(TRANSPORT === 'bridge' || (first?.pendingBytes ?? 0) > 0)
    const dropped = sample(site.service.metricsText(), 'carillon_messages_dropped_total{reason="slow_consumer_drop_newest"}')
    assert.equal(dropped, site.service.getStats().droppedMessages)
  })

  it('is empty while nothing runs, and refuses what is no number', () => {
    const service = new WebSocketService(options())
    assert.deepEqual(service.inspect(), { shards: [], slowestConsumers: [], largestTopics: [], degradationLevel: 'normal' })
    for (const top of [-1, 1.5, 101, '3']) {
      assert.throws(() => service.inspect({ top: top as number }), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT' })
    }
  })
})

describe('health', () => {
  it('names the open circuit, and tells of the change once', async (test) => {
    const lookupUser = (): never => {
      throw new Error('gone')
    }
    const site = await TestServer.open(test, { lookupUser, lookupTimeout: 40, base: { HEALTH_CHECK_INTERVAL: 100 } })
    const told: HealthStatus[] = []
    const change = new Promise<HealthStatus>((resolve) => {
      site.service.on('health', (status) => {
        told.push(status)
        resolve(status)
      })
    })
    for (let count = 0; count < 5; count += 1) await site.status(tokenOf(`user-${count}`))
    const status = await within(change, 'the event "health"')
    assert.equal(status.status, 'degraded')
    assert.ok(status.isHealthy)
    assert.deepEqual(status.warnings, ['Circuit breaker open: lookupUser'])
    await eventually(() => site.service.getMetrics().history.length > 2, 'another check has been made')
    assert.equal(told.filter((each) => each.status === 'degraded').length, 1)
  })

  it('warns when connections come near to what is expected', async (test) => {
    const site = await TestServer.open(test, { base: { CONNECTION_POOL_SIZE: 2 } })
    await site.connect('ann')
    assert.equal(site.service.getHealthStatus().status, 'healthy')
    await site.connect('bob')
    const { status, warnings } = site.service.getHealthStatus()
    assert.deepEqual({ status, warnings }, { status: 'degraded', warnings: ['High connection count: 2/2'] })
  })

  it('notices that JavaScript was blocked', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => true })
    const client = await site.connect('ann')
    const asked = new Promise<void>((resolve) => site.service.once('subscription', () => resolve()))
    client.send('subscribe', { bill_id: 1 })
    // Lets the request leave, then holds the thread until the event has waited too long.
    await new Promise((resolve) => setImmediate(resolve))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500)
    await within(asked, 'the event "subscription"')
    const { status, warnings } = site.service.getHealthStatus()
    assert.equal(status, 'degraded')
    assert.match(warnings[0] ?? '', /^Event loop delay: [1-9]\d{3,}ms$/)
  })
})

describe('examples/monitoring', () => {
  it('has rules that promtool takes', (test) => {
    if (!hasPromtool(test)) return
    execFileSync('promtool', ['check', 'rules', join(EXAMPLE, 'alerts.yml')])
  })

  it('asks for metrics that exist', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => true })
    await site.connect('ann')
    const text = site.service.metricsText()
    for (const file of ['alerts.yml', 'dashboard.json', 'README.md']) {
      const names = new Set(readFileSync(join(EXAMPLE, file), 'utf8').match(/\bcarillon_[a-z_]+/g))
      assert.ok(names.size > 5, file)
      for (const name of names) {
        const family = name.replace(/_(bucket|count|sum)$/, '')
        assert.ok(text.includes(`# TYPE ${name} `) || text.includes(`# TYPE ${family} histogram`), `${name} in ${file}`)
      }
    }
  })
})
