// Options and settings: what is wrong is said, what is right takes effect at once and for one service alone.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { BASE_CONFIG, WebSocketService, webSocketService, type RuntimeConfigValues, type WebSocketServiceOptions } from 'carillon'
import { Client } from './support/client.mjs'
import { Opcode } from './support/raw.mjs'
import { TestServer, application, closeServer, listen, options } from './support/server.mjs'
import { SECRET, tokenOf } from './support/token.mjs'

const RUNTIME: RuntimeConfigValues = {
  MESSAGE_BATCH_SIZE: 10,
  MESSAGE_BATCH_DELAY: 50,
  COMPRESSION_THRESHOLD: 1024,
  DEDUPE_CACHE_SIZE: 5000,
  DEDUPE_WINDOW: 5000,
  MAX_CONNECTIONS_PER_USER: 5,
  MEMORY_CLEANUP_INTERVAL: 180_000,
}

const PATIENT = { runtime: { MESSAGE_BATCH_DELAY: 60_000 } }

describe('an option that is unknown', () => {
  const table: Array<[given: object, unknown: string, closest?: string]> = [
    [{ pth: '/ws' }, 'pth', 'path'],
    [{ jwtSecert: SECRET }, 'jwtSecert', 'jwtSecret'],
    [{ maxBackPresure: 1 }, 'maxBackPresure', 'maxBackpressure'],
    [{ lookupuser: () => true }, 'lookupuser', 'lookupUser'],
    [{ allowedOrigin: '*' }, 'allowedOrigin', 'allowedOrigins'],
    [{ base: { MAX_PAYLOD: 1 } }, 'MAX_PAYLOD', 'MAX_PAYLOAD'],
    [{ runtime: { MESSAGE_BATCHSIZE: 1 } }, 'MESSAGE_BATCHSIZE', 'MESSAGE_BATCH_SIZE'],
    [{ somethingElseAltogether: undefined }, 'somethingElseAltogether'],
    [{ constructor: 1 }, 'constructor'],
  ]
  for (const [given, unknown, closest] of table) {
    it(`is named, with the closest known one: ${unknown}${closest ? ` → ${closest}` : ''}`, () => {
      assert.throws(() => new WebSocketService(given as never), (error: Error & { code: string }) => {
        assert.equal(error.name, 'TypeError')
        assert.equal(error.code, 'ERR_INVALID_OPTION')
        assert.ok(error instanceof TypeError)
        assert.ok(error.message.includes(unknown), error.message)
        if (closest) assert.ok(error.message.includes(`"${closest}"`), error.message)
        return true
      })
    })
  }
})

describe('an option that is wrong', () => {
  const table: Array<[given: object, ...mentioned: string[]]> = [
    [{ path: 7 }, 'path', 'string', 'number'],
    [{ path: 'ws' }, 'path', "'/'"],
    [{ path: '/ws?x' }, 'path'],
    [{ path: '' }, 'path'],
    [{ jwtSecret: 7 }, 'jwtSecret', 'string', 'number'],
    [{ jwtSecret: '' }, 'jwtSecret', 'empty'],
    [{ jwtSecret: Buffer.from('x') }, 'jwtSecret', 'string', 'object'],
    [{ jwtPublicKey: null }, 'jwtPublicKey', 'string', 'null'],
    [{ jwtAlgorithms: 'HS256' }, 'jwtAlgorithms', 'string'],
    [{ jwtAlgorithms: [7] }, 'jwtAlgorithms'],
    [{ jwtUserIdClaim: 7 }, 'jwtUserIdClaim', 'string', 'number'],
    [{ jwtIssuer: [] }, 'jwtIssuer', 'string', 'array'],
    [{ jwtAudience: true }, 'jwtAudience', 'string', 'boolean'],
    [{ lookupUser: {} }, 'lookupUser', 'function', 'object'],
    [{ lookupTimeout: 0 }, 'lookupTimeout', '1', 'Received 0'],
    [{ lookupTimeout: '5000' }, 'lookupTimeout', 'string'],
    [{ authTimeout: -1 }, 'authTimeout', '0', 'Received -1'],
    [{ authTimeout: NaN }, 'authTimeout', 'NaN'],
    [{ authTimeout: Infinity }, 'authTimeout', '86400000'],
    [{ preferences: { load() {} } }, 'preferences.save', 'function', 'undefined'],
    [{ preferences: { save() {}, load: 1 } }, 'preferences.load', 'function', 'number'],
    [{ preferences: () => {} }, 'preferences', 'function'],
    [{ allowedOrigins: 7 }, 'allowedOrigins', 'same-host', 'number'],
    [{ allowedOrigins: 'https://app.example' }, 'allowedOrigins', 'same-host'],
    [{ allowedOrigins: [7] }, 'allowedOrigins'],
    [{ compression: 'yes' }, 'compression', 'boolean', 'string'],
    [{ batching: 'none' }, 'batching', "'envelope'", "'frames'"],
    [{ maxQueueBytes: 0 }, 'maxQueueBytes', 'Received 0'],
    [{ maxBackpressure: 1.5 }, 'maxBackpressure', '1.5'],
    [{ maxAnonymous: 0 }, 'maxAnonymous', '1', 'Received 0'],
    [{ maxSubscriptions: 0 }, 'maxSubscriptions', '1', 'Received 0'],
    [{ memorySources: 'machine' }, 'memorySources', 'object', 'string'],
    [{ memorySources: { machine: 0 } }, 'memorySources.machine', 'boolean', 'number'],
    [{ memorySources: { disk: false } }, 'memorySources', 'machine', 'disk'],
    [{ connectionLimit: 'close-newest' }, 'connectionLimit', "'refuse'", "'close-oldest'"],
    [{ refusals: 401 }, 'refusals', 'number'],
    [{ refusals: 'silence' }, 'refusals', "'status'", "'close'"],
    [{ maxConnections: 0 }, 'maxConnections', '1', 'Received 0'],
    [{ maxConnections: 1.5 }, 'maxConnections', '1.5'],
    [{ handshakeTimeout: 0 }, 'handshakeTimeout', '1', 'Received 0'],
    [{ handshakeTimeout: Infinity }, 'handshakeTimeout', '86400000'],
    [{ slowConsumer: 'ignore' }, 'slowConsumer', "'close'", "'drop-oldest'", "'drop-newest'"],
    [{ trustProxy: -1 }, 'trustProxy', '-1'],
    [{ trustProxy: ['nonsense'] }, 'trustProxy', 'CIDR'],
    [{ trustProxy: true }, 'trustProxy', 'boolean'],
    [{ threads: 0 }, 'threads', '1', 'Received 0'],
    [{ threads: 1.5 }, 'threads', '1.5'],
    [{ threads: 'all' }, 'threads', 'string'],
    [{ transport: 'udp' }, 'transport', "'auto'", "'bridge'"],
    [{ logger: 'console' }, 'logger', 'string'],
    [{ logger: { info: 'yes' } }, 'logger.info', 'function', 'string'],
    [{ base: 7 }, 'base', 'object', 'number'],
    [{ base: [] }, 'base', 'object', 'array'],
    [{ base: { MAX_PAYLOAD: '1' } }, 'MAX_PAYLOAD', 'number', 'string'],
    [{ base: { MAX_PAYLOAD: 0 } }, 'MAX_PAYLOAD', '1', 'Received 0'],
    [{ base: { SHUTDOWN_GRACE_PERIOD: -1 } }, 'SHUTDOWN_GRACE_PERIOD', '0', '-1'],
    [{ base: { CONNECTION_POOL_SIZE: 0 } }, 'CONNECTION_POOL_SIZE'],
    [{ runtime: 'fast' }, 'runtime', 'object', 'string'],
    [{ runtime: { MESSAGE_BATCH_SIZE: 0 } }, 'MESSAGE_BATCH_SIZE', '1', 'Received 0'],
    [{ runtime: { MESSAGE_BATCH_SIZE: 1.5 } }, 'MESSAGE_BATCH_SIZE', 'integer', '1.5'],
    [{ runtime: { MAX_CONNECTIONS_PER_USER: null } }, 'MAX_CONNECTIONS_PER_USER', 'number', 'null'],
    [{ jwtSecret: SECRET, jwtPublicKey: 'x' }, 'jwtSecret', 'jwtPublicKey'],
  ]
  for (const [given, ...mentioned] of table) {
    it(`is named, with what was given and what is allowed: ${inspect(given, { breakLength: Infinity })}`, () => {
      assert.throws(() => new WebSocketService(given as never), (error: Error & { code: string }) => {
        assert.equal(error.name, 'TypeError')
        assert.equal(error.code, 'ERR_INVALID_OPTION')
        for (const word of mentioned) assert.ok(error.message.includes(word), `"${word}" in: ${error.message}`)
        return true
      })
    })
  }

  for (const given of [7, 'options', [], null, () => {}, true]) {
    if (given === null) continue
    it(`is not an object at all: ${inspect(given)}`, () => {
      assert.throws(() => new WebSocketService(given as never), { name: 'TypeError', code: 'ERR_INVALID_OPTION' })
    })
  }

  it('is thrown by the application itself if its getter throws', () => {
    const mine = new Error('mine')
    const given = Object.defineProperty({}, 'path', { enumerable: true, get: () => { throw mine } })
    assert.throws(() => new WebSocketService(given), mine)
  })

  it('may be left undefined', () => {
    const given: WebSocketServiceOptions = { path: undefined as never, base: { MAX_PAYLOAD: undefined as never }, runtime: undefined as never, logger: undefined as never }
    const service = new WebSocketService(given)
    assert.deepEqual(service.runtimeConfig.toObject(), RUNTIME)
  })
})

describe('the secret', () => {
  it('is in no message, no property and no picture of the service', () => {
    const service = new WebSocketService({ jwtSecret: SECRET })
    assert.equal(inspect(service, { depth: 9, showHidden: true, getters: true }).includes(SECRET), false)
    assert.equal((JSON.stringify(service) ?? '').includes(SECRET), false)
    for (const wrong of [{ pth: 1 }, { jwtPublicKey: 'x' }, { jwtAlgorithms: ['RS256'] }, { path: 'x' }]) {
      const start = (): void => new WebSocketService({ jwtSecret: SECRET, ...wrong } as never).initialize(createServer())
      assert.throws(start, (error: Error) => !inspect(error).includes(SECRET))
    }
  })
})

describe('configure', () => {
  it('sets the options of the ready-made service, before it runs', async (test) => {
    assert.ok(webSocketService instanceof WebSocketService)
    assert.equal(webSocketService.state, 'stopped')
    webSocketService.configure(options({ path: '/ready', runtime: { MAX_CONNECTIONS_PER_USER: 1 } }))
    const http = createServer(application)
    test.after(() => closeServer(http))
    webSocketService.initialize(http)
    const port = await listen(http)
    const open = (path: string): Promise<Client> => Client.open(`ws://127.0.0.1:${port}${path}?token=${tokenOf('ann')}`)
    const client = await open('/ready')
    await assert.rejects(open('/ready'), /401/)
    await assert.rejects(open('/ws'), /400/)
    assert.throws(() => webSocketService.configure({ path: '/other' }), { code: 'ERR_ALREADY_RUNNING', name: 'Error' })
    const ending = webSocketService.shutdown()
    assert.throws(() => webSocketService.configure({ path: '/other' }), { code: 'ERR_ALREADY_RUNNING' })
    await ending
    assert.equal((await client.whenClosed()).code, 1001)
    webSocketService.configure(options({ path: '/other' }))
    webSocketService.initialize(http)
    await open('/other')
    await open('/other')
    await webSocketService.shutdown()
  })

  it('leaves everything as it was when something is wrong', async (test) => {
    const site = await TestServer.open(test, { path: '/one', runtime: { DEDUPE_WINDOW: 7 } })
    await site.service.shutdown()
    assert.throws(() => site.service.configure({ path: '/two', runtime: { DEDUPE_WINDOW: -1 } }), { code: 'ERR_INVALID_OPTION' })
    assert.throws(() => site.service.configure({ pth: '/two' } as never), { code: 'ERR_INVALID_OPTION' })
    assert.equal(site.service.runtimeConfig.get('DEDUPE_WINDOW'), 7)
    site.service.initialize(site.http)
    await Client.open(site.url(tokenOf('ann'), '/one'))
  })
})

describe('BASE_CONFIG', () => {
  it('holds the constants of the design, which cannot be changed', () => {
    assert.deepEqual({ ...BASE_CONFIG }, {
      HEARTBEAT_INTERVAL: 30_000,
      HEALTH_CHECK_INTERVAL: 60_000,
      STALE_CONNECTION_THRESHOLD: 60_000,
      CONNECTION_POOL_SIZE: 10_000,
      MAX_QUEUE_SIZE: 1000,
      MAX_PAYLOAD: 102_400,
      MAX_LATENCY_SAMPLES: 200,
      DEDUPE_CACHE_CLEANUP_AGE: 1_800_000,
      MAX_RECONNECT_ATTEMPTS: 3,
      RECONNECT_DELAY: 1000,
      HIGH_MEMORY_THRESHOLD: 85,
      CRITICAL_MEMORY_THRESHOLD: 95,
      PERFORMANCE_HISTORY_MAX_SIZE: 100,
      SHUTDOWN_GRACE_PERIOD: 5000,
    })
    assert.ok(Object.isFrozen(BASE_CONFIG))
  })
})

describe('runtimeConfig', () => {
  const names = Object.keys(RUNTIME) as Array<keyof RuntimeConfigValues>

  it('starts with the values of the design, or those constructed with', () => {
    assert.deepEqual(new WebSocketService(options()).runtimeConfig.toObject(), RUNTIME)
    const config = new WebSocketService(options({ runtime: { DEDUPE_WINDOW: 1, MESSAGE_BATCH_SIZE: 3 } })).runtimeConfig
    assert.deepEqual(config.toObject(), { ...RUNTIME, DEDUPE_WINDOW: 1, MESSAGE_BATCH_SIZE: 3 })
    for (const name of names) assert.equal(config.get(name), config.toObject()[name])
  })

  it('is changed by set and changed back by reset', () => {
    const service = new WebSocketService(options({ runtime: { DEDUPE_WINDOW: 1 } }))
    const config = service.runtimeConfig
    assert.equal(service.runtimeConfig, config)
    assert.equal(config.set('DEDUPE_WINDOW', 2), undefined)
    config.set('MESSAGE_BATCH_SIZE', 20)
    assert.deepEqual(config.toObject(), { ...RUNTIME, DEDUPE_WINDOW: 2, MESSAGE_BATCH_SIZE: 20 })
    config.toObject().DEDUPE_WINDOW = 99
    assert.equal(config.get('DEDUPE_WINDOW'), 2)
    config.reset()
    assert.deepEqual(config.toObject(), { ...RUNTIME, DEDUPE_WINDOW: 1 })
  })

  it('belongs to one service', () => {
    const [one, two] = [new WebSocketService(options()), new WebSocketService(options())]
    one.runtimeConfig.set('MESSAGE_BATCH_SIZE', 1)
    assert.equal(two.runtimeConfig.get('MESSAGE_BATCH_SIZE'), 10)
    two.runtimeConfig.reset()
    assert.equal(one.runtimeConfig.get('MESSAGE_BATCH_SIZE'), 1)
  })

  it('has bounds, which the error names', () => {
    const { runtimeConfig } = new WebSocketService(options())
    for (const name of names) {
      for (const value of [-1, 1.5, NaN, Infinity, -Infinity, 1e18]) {
        assert.throws(() => runtimeConfig.set(name, value), (error: Error & { code: string }) => {
          assert.ok(error instanceof RangeError)
          assert.equal(error.code, 'ERR_OUT_OF_RANGE')
          assert.match(error.message, new RegExp(`"${name}" must be .*from \\d+ to \\d+`))
          return true
        })
      }
      for (const value of [undefined, null, '10', 10n, {}]) {
        assert.throws(() => runtimeConfig.set(name, value as never), { name: 'TypeError' })
      }
    }
    assert.deepEqual(runtimeConfig.toObject(), RUNTIME)
  })

  it('knows its names', () => {
    const { runtimeConfig } = new WebSocketService(options())
    assert.throws(() => runtimeConfig.get('MESSAGE_BATCHSIZE' as never), { name: 'TypeError', message: /MESSAGE_BATCH_SIZE/ })
    assert.throws(() => runtimeConfig.set('nonsense' as never, 1), { name: 'TypeError', message: /nonsense/ })
    assert.throws(() => runtimeConfig.get('constructor' as never), { name: 'TypeError' })
  })

  it('takes effect at once: the size of batches', async (test) => {
    const site = await TestServer.open(test, PATIENT)
    const client = await site.connect('ann')
    site.service.runtimeConfig.set('MESSAGE_BATCH_SIZE', 2)
    client.send('subscribe', { bill_id: 1 })
    client.send('subscribe', { bill_id: 2 })
    await client.take('subscribed')
    site.service.runtimeConfig.set('MESSAGE_BATCH_SIZE', 1)
    await client.probe()
    const start = client.frames.length
    for (let index = 0; index < 3; index++) {
      site.service.broadcastBillUpdate(1, { type: 'amendment', data: { index }, timestamp: new Date() })
      await client.take('bill_update')
    }
    assert.equal(client.frames.length, start + 3)
  })

  it('takes effect at once: the delay of batches', async (test) => {
    const site = await TestServer.open(test, PATIENT)
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 1 })
    client.send('ping')
    await client.take('pong')
    site.service.runtimeConfig.set('MESSAGE_BATCH_DELAY', 0)
    site.service.broadcastBillUpdate(1, { type: 'amendment', data: {}, timestamp: new Date() })
    await client.take('bill_update')
    assert.deepEqual(client.messages.map(({ type }) => type), ['connected', 'pong', 'subscribed', 'bill_update'])
  })

  it('takes effect at once: the number of connections', async (test) => {
    const site = await TestServer.open(test)
    site.service.runtimeConfig.set('MAX_CONNECTIONS_PER_USER', 1)
    await site.connect('ann')
    assert.equal(await site.status(tokenOf('ann')), 401)
    site.service.runtimeConfig.set('MAX_CONNECTIONS_PER_USER', 2)
    assert.equal(await site.status(tokenOf('ann')), 101)
    assert.equal(await site.status(tokenOf('ann')), 401)
    site.service.runtimeConfig.set('MAX_CONNECTIONS_PER_USER', 1)
    assert.equal(site.service.getConnectionCount('ann'), 2, 'no connection is closed')
  })

  it('takes effect at once: the size from which is compressed', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.rawConnection('ann', { 'Sec-WebSocket-Extensions': 'permessage-deflate' })
    const compressed = async (): Promise<boolean> => {
      site.service.broadcastToAll({ type: 'announcement', data: { filler: 'ab'.repeat(200) } })
      for (;;) {
        const { opcode, rsv, payload } = await peer.frame()
        if (opcode === Opcode.text && (rsv === 4 || payload.includes('announcement'))) return rsv === 4
      }
    }
    assert.equal(await compressed(), false)
    site.service.runtimeConfig.set('COMPRESSION_THRESHOLD', 1000)
    assert.equal(await compressed(), false)
    site.service.runtimeConfig.set('COMPRESSION_THRESHOLD', 300)
    assert.equal(await compressed(), true)
    site.service.runtimeConfig.reset()
    assert.equal(await compressed(), false)
  })

  it('takes effect at once: what is taken for a repeat', async (test) => {
    const site = await TestServer.open(test)
    const update = { type: 'amendment', data: {}, timestamp: new Date() }
    const publish = (): number => {
      site.service.broadcastBillUpdate(1, update)
      return site.service.getStats().duplicateMessages
    }
    assert.deepEqual([publish(), publish()], [0, 1])
    site.service.runtimeConfig.set('DEDUPE_WINDOW', 0)
    assert.equal(publish(), 1)
    site.service.runtimeConfig.set('DEDUPE_WINDOW', 5000)
    assert.equal(publish(), 2)
    for (let bill = 2; bill <= 6; bill++) site.service.broadcastBillUpdate(bill, update)
    assert.equal(site.service.getStats().dedupeCacheSize, 6)
    site.service.runtimeConfig.set('DEDUPE_CACHE_SIZE', 3)
    assert.equal(site.service.getStats().dedupeCacheSize, 3)
  })
})
