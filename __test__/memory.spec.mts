// Memory pressure and leaks: what is reported from outside, what is measured, and what clients see of it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { WebSocketService, type DegradationLevel, type MemoryLeakData, type RuntimeConfigValues } from 'carillon'
import { TestServer, options, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

/** A step of the recovery takes a sixth of this. */
const base = { HEALTH_CHECK_INTERVAL: 60 }

const NORMAL: RuntimeConfigValues = {
  MESSAGE_BATCH_SIZE: 10,
  MESSAGE_BATCH_DELAY: 50,
  COMPRESSION_THRESHOLD: 1024,
  DEDUPE_CACHE_SIZE: 5000,
  DEDUPE_WINDOW: 5000,
  MAX_CONNECTIONS_PER_USER: 5,
  MEMORY_CLEANUP_INTERVAL: 180_000,
}

const HALVED = { ...NORMAL, MESSAGE_BATCH_SIZE: 5 }
const SINGLE = {
  MESSAGE_BATCH_SIZE: 1,
  MESSAGE_BATCH_DELAY: 0,
  COMPRESSION_THRESHOLD: 16_777_216,
  DEDUPE_CACHE_SIZE: 500,
  DEDUPE_WINDOW: 5000,
  MAX_CONNECTIONS_PER_USER: 3,
}

const LEVELS: Array<{ level: DegradationLevel; pressure: number; values: RuntimeConfigValues }> = [
  { level: 'light', pressure: 0.86, values: { ...HALVED, MEMORY_CLEANUP_INTERVAL: 90_000 } },
  {
    level: 'moderate',
    pressure: 0.89,
    values: { ...HALVED, COMPRESSION_THRESHOLD: 4096, DEDUPE_CACHE_SIZE: 1500, MEMORY_CLEANUP_INTERVAL: 60_000 },
  },
  { level: 'severe', pressure: 0.92, values: { ...SINGLE, MEMORY_CLEANUP_INTERVAL: 30_000 } },
  { level: 'critical', pressure: 0.96, values: { ...SINGLE, MEMORY_CLEANUP_INTERVAL: 10_000 } },
]

const LEAK: MemoryLeakData = {
  severity: 'high',
  recommendations: ['compare heap snapshots', 'restart soon'],
  analysis: { growthRate: 6.25, retainedIncrease: 123_456_789 },
}

const level = (site: TestServer): DegradationLevel => site.service.getHealthStatus().degradationLevel

describe('memory pressure reported from outside', () => {
  it('degrades level by level, sheds at the last, and recovers step by step', async (test) => {
    const site = await TestServer.open(test, { base })
    const ann = await site.connect('ann')
    let previous: DegradationLevel = 'normal'
    for (const [index, { level: expected, pressure, values }] of LEVELS.entries()) {
      const told = site.event('degradation')
      site.service.reportMemoryPressure({ pressure, threshold: 0.85 })
      // At once: no turn of the event loop in between.
      assert.equal(level(site), expected)
      assert.deepEqual(site.service.runtimeConfig.toObject(), values)
      assert.deepEqual(await told, { level: expected, previous, pressure })
      const { timestamp, ...status } = await ann.take('system_status')
      assert.deepEqual(status, {
        type: 'system_status',
        data: { degradationLevel: index + 1, message: `Server optimization level ${index + 1} active due to memory pressure` },
        priority: 'immediate',
      })
      assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      previous = expected
    }

    const { response } = await site.requestUpgrade(withToken(tokenOf('bob')))
    assert.deepEqual([response.statusLine, response.headers['retry-after']], ['HTTP/1.1 503 Service Unavailable', '30'])
    assert.equal((await site.requestUpgrade({ ...withToken(tokenOf('bob')), target: '/elsewhere' })).response.status, 400)
    await ann.probe()
    await site.settled('ann', ann)

    const steps: DegradationLevel[] = []
    const recovered = new Promise<void>((resolve) => {
      site.service.on('degradation', (change) => {
        steps.push(change.level)
        if (change.level === 'normal') resolve()
      })
    })
    site.service.reportMemoryPressure({ pressure: 0.3, threshold: 0.85 })
    await recovered
    assert.deepEqual(steps, ['severe', 'moderate', 'light', 'normal'])
    assert.deepEqual(site.service.runtimeConfig.toObject(), NORMAL)
    for (const expected of [3, 2, 1, 0]) {
      assert.equal((await ann.take('system_status'))['data'].degradationLevel, expected)
    }
    assert.equal(
      ann.messages.findLast(({ type }) => type === 'system_status')?.['data'].message,
      'Server optimization reset - normal operation restored',
    )
    await site.connect('bob')
  })

  it('is a setting: reported again and again it changes nothing', async (test) => {
    const site = await TestServer.open(test)
    const ann = await site.connect('ann')
    for (let times = 0; times < 20; times++) site.service.reportMemoryPressure({ pressure: 0.92, threshold: 0.85 })
    assert.equal(site.service.runtimeConfig.get('MAX_CONNECTIONS_PER_USER'), 3)
    await site.settled('ann', ann)
    assert.equal(ann.received('system_status').length, 1)
  })

  it('lowers the limit for new connections and leaves those that are open', async (test) => {
    const site = await TestServer.open(test)
    const tabs = await Promise.all(Array.from({ length: 5 }, () => site.connect('ann')))
    site.service.reportMemoryPressure({ pressure: 0.92, threshold: 0.85 })
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(await site.status(tokenOf('bob')), 101)
    await Promise.all(tabs.map((tab) => tab.probe()))
    assert.equal(site.service.getConnectionCount('ann'), 5)
  })

  it("keeps the owner's changes, degraded while it lasts", async (test) => {
    const site = await TestServer.open(test, { base, runtime: { MESSAGE_BATCH_SIZE: 8 } })
    const { runtimeConfig } = site.service
    site.service.reportMemoryPressure({ pressure: 0.86, threshold: 0.85 })
    assert.equal(runtimeConfig.get('MESSAGE_BATCH_SIZE'), 4)
    runtimeConfig.set('MESSAGE_BATCH_SIZE', 40)
    assert.equal(runtimeConfig.get('MESSAGE_BATCH_SIZE'), 20)
    runtimeConfig.reset()
    assert.equal(runtimeConfig.get('MESSAGE_BATCH_SIZE'), 4)
    runtimeConfig.set('MESSAGE_BATCH_SIZE', 30)
    const recovered = site.event('degradation')
    site.service.reportMemoryPressure({ pressure: 0, threshold: 0.85 })
    assert.equal((await recovered).level, 'normal')
    assert.equal(runtimeConfig.get('MESSAGE_BATCH_SIZE'), 30)
  })

  it("at the reporter's own threshold means at least the first level", async (test) => {
    const site = await TestServer.open(test)
    site.service.reportMemoryPressure({ pressure: 0.59, threshold: 0.6 })
    assert.equal(level(site), 'normal')
    site.service.reportMemoryPressure({ pressure: 0.6, threshold: 0.6 })
    assert.equal(level(site), 'light')
  })

  it('ends with the run', async (test) => {
    const site = await TestServer.open(test)
    site.service.reportMemoryPressure({ pressure: 0.96, threshold: 0.85 })
    await site.service.shutdown()
    assert.equal(level(site), 'normal')
    assert.deepEqual(site.service.runtimeConfig.toObject(), NORMAL)
    site.service.reportMemoryPressure({ pressure: 0.96, threshold: 0.85 })
    assert.equal(level(site), 'normal')
    site.service.initialize(site.http)
    await site.connect('ann')
  })

  it('must be two numbers from 0 to 1', () => {
    const service = new WebSocketService(options())
    const wrong: Array<[unknown, RegExp]> = [
      [undefined, /"data" must be an object\. Received undefined/],
      [0.9, /"data" must be an object\. Received number/],
      [{ threshold: 0.85 }, /"data\.pressure" must be a finite number\. Received undefined/],
      [{ pressure: '0.9', threshold: 0.85 }, /"data\.pressure" must be a finite number\. Received string/],
      [{ pressure: NaN, threshold: 0.85 }, /"data\.pressure"/],
      [{ pressure: 90, threshold: 0.85 }, /"data\.pressure" must be a number from 0 to 1\. Received 90/],
      [{ pressure: 0.9, threshold: -1 }, /"data\.threshold" must be a number from 0 to 1\. Received -1/],
    ]
    for (const [data, message] of wrong) {
      assert.throws(() => service.reportMemoryPressure(data as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message })
    }
    assert.equal(service.reportMemoryPressure({ pressure: 1, threshold: 0 }), undefined)
  })
})

describe('a memory leak reported from outside', () => {
  it('is sent to every client and to listeners, and halves what is remembered', async (test) => {
    const site = await TestServer.open(test)
    const clients = await Promise.all(['ann', 'ann', 'bob'].map((user) => site.connect(user)))
    for (let number = 0; number < 8; number++) {
      site.service.broadcastBillUpdate(1, { type: 'amendment', data: { number }, timestamp: new Date() })
    }
    const told = site.event('memoryLeak')
    site.service.reportMemoryLeak(LEAK)
    assert.equal(site.service.getStats().dedupeCacheSize, 4)
    assert.deepEqual(await told, LEAK)
    for (const client of clients) {
      const { timestamp, ...warning } = await client.take('system_warning')
      assert.deepEqual(warning, {
        type: 'system_warning',
        data: {
          type: 'memory_pressure',
          severity: 'high',
          message: 'Server experiencing memory pressure. Some features may be degraded.',
        },
        priority: 'immediate',
      })
      assert.match(timestamp, /Z$/)
    }
  })

  it('throws away what waits only if it is critical', async (test) => {
    const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_DELAY: 60_000 } })
    const ann = await site.connect('ann')
    ann.send('subscribe', { bill_id: 1 })
    ann.send('ping')
    // The reply to the first waits in its batch.
    await ann.take('pong')
    for (const severity of ['low', 'medium', 'high'] as const) site.service.reportMemoryLeak({ ...LEAK, severity })
    for (const _ of ['low', 'medium', 'high']) await ann.take('system_warning')
    assert.equal(site.service.getStats().droppedMessages, 0)
    site.service.reportMemoryLeak({ ...LEAK, severity: 'critical' })
    await ann.take('system_warning')
    assert.ok(site.service.getStats().droppedMessages > 0)
  })

  it('must be described as MemoryLeakData', () => {
    const service = new WebSocketService(options())
    const wrong: Array<[unknown, RegExp]> = [
      [null, /"data" must be an object/],
      [{ ...LEAK, severity: 'huge' }, /"data\.severity" must be one of low, medium, high, critical\. Received string/],
      [{ ...LEAK, recommendations: 'none' }, /"data\.recommendations" must be an array of strings\. Received string/],
      [{ ...LEAK, recommendations: ['a', 1] }, /"data\.recommendations" must be an array of strings\. Received number/],
      [{ ...LEAK, analysis: undefined }, /"data\.analysis" must be an object\. Received undefined/],
      [{ ...LEAK, analysis: { growthRate: 1 } }, /"data\.analysis\.retainedIncrease" must be a finite number/],
      [{ ...LEAK, analysis: { ...LEAK.analysis, growthRate: Infinity } }, /"data\.analysis\.growthRate" must be a finite number/],
    ]
    for (const [data, message] of wrong) {
      assert.throws(() => service.reportMemoryLeak(data as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message })
    }
    assert.equal(service.reportMemoryLeak(LEAK), undefined)
  })
})
