// What is published reaches whom it is for: every connection, in order, once, in the JSON that JavaScript would write.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { BillUpdate, WebSocketServiceOptions } from 'carillon'
import { Opcode, text, upgradeRequest } from './support/raw.mjs'
import { TestServer, withToken, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

const ISO = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/
/** A batch leaves when it is full, never because of time: what is buffered can be told from what was sent. */
const PATIENT: WebSocketServiceOptions = { runtime: { MESSAGE_BATCH_DELAY: 60_000 } }
const AT = new Date('2026-03-01T12:00:00.000Z')

const update = (data: Record<string, unknown> = {}, rest: Partial<BillUpdate> = {}): BillUpdate => ({
  type: 'new_comment',
  data,
  timestamp: AT,
  ...rest,
})
const notice = (title: string): { type: string; title: string; message: string } => ({ type: 'notice', title, message: '' })
const numbered = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

/** Descriptors of members as a literal has them. */
const properties = (members: object): PropertyDescriptorMap =>
  Object.fromEntries(Object.entries(members).map(([name, value]) => [name, { value, enumerable: true }]))

describe('a batch', () => {
  it('is an envelope around the messages, in their order', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1, 2)
    const start = client.frames.length
    site.service.broadcastBillUpdate(1, update({ index: 0 }))
    site.service.broadcastBillUpdate(2, update({ index: 1 }))
    site.service.broadcastBillUpdate(1, update({ index: 2 }))
    await client.takeMany('bill_update', 3)
    const message = (bill: number, index: number): string =>
      `{"type":"bill_update","bill_id":${bill},"update":{"type":"new_comment","data":{"index":${index}},"timestamp":"${AT.toISOString()}"},"timestamp":"${AT.toISOString()}"}`
    assert.deepEqual(client.frames.slice(start), [`{"type":"batch","messages":[${message(1, 0)},${message(2, 1)},${message(1, 2)}]}`])
  })

  it('of one is that message, fifty milliseconds later', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1)
    const start = client.frames.length
    const published = performance.now()
    site.service.broadcastBillUpdate(1, update())
    await client.take('bill_update')
    // Timers of both sides may round a little.
    assert.ok(performance.now() - published > 45, `${performance.now() - published} ms`)
    assert.match(client.frames[start] ?? '', /^\{"type":"bill_update"/)
  })

  it('leaves as soon as it holds ten messages', async (test) => {
    const site = await TestServer.open(test, PATIENT)
    const client = await site.connect('ann')
    // These are ten.
    numbered(9).forEach((index) => client.send('unsubscribe', { bill_id: index + 1 }))
    client.send('batch_subscribe', { bill_ids: [1] })
    await client.take('batch_subscribed')
    const start = client.frames.length
    numbered(25).forEach((index) => site.service.broadcastBillUpdate(1, update({ index })))
    await client.takeMany('bill_update', 20)
    numbered(5).forEach((index) => site.service.broadcastBillUpdate(1, update({ index: 25 + index })))
    await client.takeMany('bill_update', 10)
    const sizes = client.frames.slice(start).map((frame) => JSON.parse(frame).messages.length as number)
    assert.deepEqual(sizes, [10, 10, 10])
    assert.deepEqual(client.received('bill_update').map((message) => message['update'].data.index as number), numbered(30))
  })

  it('may be as many frames instead, at the same time', async (test) => {
    const site = await TestServer.open(test, { ...PATIENT, batching: 'frames' })
    const client = await site.connect('ann')
    client.send('batch_subscribe', { bill_ids: [1] })
    numbered(9).forEach((index) => client.send('unsubscribe', { bill_id: index + 2 }))
    await client.take('batch_subscribed')
    numbered(12).forEach((index) => site.service.broadcastBillUpdate(1, update({ index })))
    await client.takeMany('bill_update', 10)
    numbered(8).forEach((index) => site.service.broadcastBillUpdate(1, update({ index: 12 + index })))
    await client.takeMany('bill_update', 10)
    assert.equal(client.received('batch').length, 0)
    assert.equal(client.frames.length, client.messages.length)
    assert.equal(client.messages.length, 31)
  })

  it('is overtaken by what is immediate', async (test) => {
    const site = await TestServer.open(test, PATIENT)
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 1 })
    client.send('ping')
    await client.take('pong')
    site.service.broadcastBillUpdate(1, update())
    site.service.sendUserNotification('ann', notice('first'))
    site.service.broadcastToAll({ type: 'announcement', data: {} })
    await client.take('notification')
    await client.take('announcement')
    numbered(8).forEach((index) => client.send('unsubscribe', { bill_id: index + 2 }))
    await client.takeMany('unsubscribed', 8)
    assert.deepEqual(client.messages.map(({ type }) => type), [
      'connected', 'pong', 'notification', 'announcement', 'subscribed', 'bill_update', ...numbered(8).map(() => 'unsubscribed'),
    ])
  })

  it('never holds the greeting, however quick the client was', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    const early = [text({ type: 'ping' }), text({ type: 'subscribe', data: { bill_id: 3 } }), text({ type: 'get_preferences' })]
    await peer.write(Buffer.concat([Buffer.from(upgradeRequest(withToken(tokenOf('ann')))), ...early]))
    await peer.response()
    const next = async (): Promise<any> => JSON.parse((await peer.frameOf(Opcode.text)).payload.toString())
    assert.equal((await next()).type, 'connected')
    assert.equal((await next()).type, 'pong')
    const batch = await next()
    assert.equal(batch.type, 'batch')
    assert.deepEqual(batch.messages.map(({ type }: { type: string }) => type), ['subscribed', 'preferences'])
  })
})

describe('the greeting', () => {
  it('says who, which connection and how', async (test) => {
    const site = await TestServer.open(test)
    const [first, second] = [await site.connect('ann'), await site.connect('ann')]
    const [one, two] = [await first.take('connected'), await second.take('connected')]
    const number = (id: string): number => Number(/^ann-(\d+)$/.exec(id)?.[1])
    assert.equal(number(two['data'].connectionId), number(one['data'].connectionId) + 1)
    assert.match(one['data'].timestamp, ISO)
    const { connectionId, timestamp } = one['data']
    const config = { heartbeatInterval: 30_000, maxMessageSize: 102_400, supportsBatching: true, compressionEnabled: true }
    assert.equal(
      first.frames[0],
      JSON.stringify({
        type: 'connected',
        message: 'WebSocket connection established',
        data: { user_id: 'ann', connectionId, timestamp, config },
      }),
    )
  })

  it('writes any user id as JSON does', async (test) => {
    const site = await TestServer.open(test)
    const user = 'ann "the\n\u2028ü😀\\'
    const client = await site.connect(user)
    assert.equal((await client.take('connected'))['data'].user_id, user)
    assert.deepEqual(site.service.getAllConnectedUsers(), [user])
    site.service.sendUserNotification(user, notice('you'))
    await client.take('notification')
  })
})

describe('a bill update that was there already', () => {
  const open = async (test: Scope, runtime: WebSocketServiceOptions['runtime'] = {}) => {
    const site = await TestServer.open(test, { runtime })
    const client = await site.follower('ann', 1, 2)
    const publish = (...updates: Array<[bill: number, update: BillUpdate]>): void => {
      for (const [bill, given] of updates) site.service.broadcastBillUpdate(bill, given)
    }
    /** Everything that has arrived once what was published before has. */
    const arrived = async (): Promise<unknown[]> => {
      await site.settled('ann', client)
      return client.received('bill_update').map((message) => [message['bill_id'], message['update'].data.text])
    }
    return { site, client, publish, arrived, duplicates: () => site.service.getStats().duplicateMessages }
  }

  it('is dropped and counted', async (test) => {
    const { publish, arrived, duplicates } = await open(test)
    publish([1, update({ text: 'a' })], [1, update({ text: 'a' })])
    assert.equal(duplicates(), 1)
    publish([1, update({ text: 'a' }, { timestamp: new Date(AT) })])
    assert.equal(duplicates(), 2)
    publish([1, update({ text: 'b' })])
    assert.deepEqual(await arrived(), [[1, 'a'], [1, 'b']])
  })

  it('is another one when its content, type, time or bill is', async (test) => {
    const { client, publish, arrived, duplicates } = await open(test)
    publish(
      [1, update({ text: 'a' })],
      [1, update({ text: 'b' })],
      [2, update({ text: 'a' })],
      [1, update({ text: 'a' }, { type: 'amendment' })],
      [1, update({ text: 'a' }, { timestamp: new Date(+AT + 1) })],
      [1, { ...update({ text: 'a' }), author: 'bob' } as BillUpdate],
    )
    assert.deepEqual(await arrived(), [[1, 'a'], [1, 'b'], [2, 'a'], [1, 'a'], [1, 'a'], [1, 'a']])
    assert.equal(duplicates(), 0)
    assert.deepEqual(client.received('bill_update').at(-1)?.['update'].author, 'bob')
  })

  it('is one even if no connection received it', async (test) => {
    const { site, client, publish, duplicates } = await open(test)
    publish([7, update({ text: 'a' })])
    await client.subscribe(7)
    publish([7, update({ text: 'a' })], [7, update({ text: 'b' })])
    await site.settled('ann', client)
    assert.deepEqual(client.received('bill_update').map((message) => message['update'].data.text as string), ['b'])
    assert.equal(duplicates(), 1)
  })

  it('is forgotten after the window', async (test) => {
    const { publish, arrived, duplicates } = await open(test, { DEDUPE_WINDOW: 0 })
    publish([1, update({ text: 'a' })], [1, update({ text: 'a' })])
    assert.deepEqual(await arrived(), [[1, 'a'], [1, 'a']])
    assert.equal(duplicates(), 0)
  })

  it('is forgotten when more have come than are remembered', async (test) => {
    const { site, publish, arrived, duplicates } = await open(test, { DEDUPE_CACHE_SIZE: 2 })
    publish([1, update({ text: 'a' })], [1, update({ text: 'b' })], [1, update({ text: 'c' })], [1, update({ text: 'a' })])
    assert.equal(site.service.getStats().dedupeCacheSize, 2)
    assert.deepEqual(await arrived(), [[1, 'a'], [1, 'b'], [1, 'c'], [1, 'a']])
    assert.equal(duplicates(), 0)
  })

  it('is forgotten after cleanup()', async (test) => {
    const { site, publish, arrived } = await open(test)
    publish([1, update({ text: 'a' })])
    await arrived()
    site.service.cleanup()
    assert.equal(site.service.getStats().dedupeCacheSize, 0)
    publish([1, update({ text: 'a' })])
    assert.deepEqual(await arrived(), [[1, 'a'], [1, 'a']])
  })
})

describe('every connection', () => {
  it('that follows a bill is sent its updates, and no other', async (test) => {
    const site = await TestServer.open(test, { threads: 3 })
    const [one, two, three] = [await site.follower('ann', 1), await site.follower('ann', 1, 2), await site.follower('ann', 2)]
    const bob = await site.follower('bob', 2)
    site.service.broadcastBillUpdate(1, update({ text: 'one' }))
    site.service.broadcastBillUpdate(2, update({ text: 'two' }))
    for (const client of [one, two, three]) await site.settled('ann', client)
    await site.settled('bob', bob)
    const texts = [one, two, three, bob].map((client) => client.received('bill_update').map((message) => message['update'].data.text as string))
    assert.deepEqual(texts, [['one'], ['one', 'two'], ['two'], ['two']])
    assert.deepEqual(site.service.getBillSubscribers(2).sort(), ['ann', 'bob'])
  })

  it('keeps its bills when another one of the user closes', async (test) => {
    const site = await TestServer.open(test)
    const [staying, leaving] = [await site.follower('ann', 1), await site.follower('ann', 1, 2)]
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [1, 2])
    await leaving.close(1000)
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [1])
    assert.deepEqual(site.service.getBillSubscribers(1), ['ann'])
    assert.deepEqual(site.service.getBillSubscribers(2), [])
    site.service.broadcastBillUpdate(1, update())
    await staying.take('bill_update')
  })

  it('keeps its bills when another one of the user unsubscribes', async (test) => {
    const site = await TestServer.open(test)
    const [one, two] = [await site.follower('ann', 1), await site.follower('ann', 1, 5)]
    await one.unsubscribe(1)
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [1, 5])
    assert.deepEqual(site.service.getBillSubscribers(1), ['ann'])
    site.service.broadcastBillUpdate(1, update())
    await two.take('bill_update')
    await site.settled('ann', one)
    assert.equal(one.received('bill_update').length, 0)
  })

  it('is sent an update once, however often it has subscribed', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1, 1, 1)
    client.send('subscribe', { bill_id: 1 })
    client.send('subscribe', { bill_id: '1' })
    await client.takeMany('subscribed', 2)
    site.service.broadcastBillUpdate(1, update())
    await site.settled('ann', client)
    assert.equal(client.received('bill_update').length, 1)
    await client.unsubscribe(1)
    site.service.broadcastBillUpdate(1, update({ text: 'after' }))
    await site.settled('ann', client)
    assert.equal(client.received('bill_update').length, 1)
    assert.deepEqual(site.service.getBillSubscribers(1), [])
  })

  it('that subscribed with digits is sent the updates of that number', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: '42' })
    assert.equal((await client.take('subscribed'))['data'].bill_id, '42')
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [42])
    site.service.broadcastBillUpdate(42, update())
    assert.equal((await client.take('bill_update'))['bill_id'], 42)
  })

  it('is sent what is for all, every time', async (test) => {
    const site = await TestServer.open(test, { threads: 3 })
    const clients = [await site.connect('ann'), await site.connect('ann'), await site.connect('bob'), await site.connect('cleo')]
    site.service.broadcastToAll({ type: 'announcement', data: { text: 'a' }, timestamp: AT })
    site.service.broadcastToAll({ type: 'announcement', data: { text: 'b' }, timestamp: AT })
    site.service.broadcastToAll({ type: 'announcement', data: { text: 'b' }, timestamp: AT })
    for (const client of clients) {
      const texts = (await client.takeMany('announcement', 3)).map((message) => message['data'].text as string)
      assert.deepEqual(texts, ['a', 'b', 'b'])
    }
  })

  it('of a user is sent the user\'s notifications, and no other connection is', async (test) => {
    const site = await TestServer.open(test, { threads: 3 })
    const [one, two, bob] = [await site.connect('ann'), await site.connect('ann'), await site.connect('bob')]
    const before = site.service.getStats()
    site.service.sendUserNotification('ann', notice('same'))
    site.service.sendUserNotification('ann', notice('same'))
    site.service.sendUserNotification('nobody', notice('lost'))
    for (const client of [one, two]) await client.takeMany('notification', 2)
    await site.settled('bob', bob)
    assert.equal(bob.received('notification').length, 1)
    const { totalBroadcasts, duplicateMessages } = site.service.getStats()
    assert.deepEqual({ totalBroadcasts, duplicateMessages }, { totalBroadcasts: before.totalBroadcasts, duplicateMessages: 0 })
  })
})

describe('ten thousand publishes in one turn', () => {
  const count = 10_000
  const kinds: Array<[name: string, type: string, publish: (site: TestServer, index: number) => void]> = [
    ['bill updates', 'bill_update', (site, index) => site.service.broadcastBillUpdate(1, update({ index }))],
    ['notifications', 'notification', (site, index) => site.service.sendUserNotification('ann', { ...notice(''), data: { index } })],
    ['messages to all', 'announcement', (site, index) => site.service.broadcastToAll({ type: 'announcement', data: { index } })],
  ]
  for (const [name, type, publish] of kinds) {
    it(`all arrive in their order: ${name}`, async (test) => {
      // The client of this test cannot read before the turn is over.
      const site = await TestServer.open(test, { maxBackpressure: 64 * 1024 * 1024 })
      const clients = [await site.follower('ann', 1), await site.follower('ann', 1)]
      numbered(count).forEach((index) => publish(site, index))
      for (const client of clients) {
        const indexes = (await client.takeMany(type, count)).map((message) => {
          const { data } = (message['update'] ?? message['notification'] ?? message) as { data: { index: number } }
          return data.index
        })
        assert.deepEqual(indexes, numbered(count))
      }
      const { droppedMessages, queueOverflows } = site.service.getStats()
      assert.deepEqual({ droppedMessages, queueOverflows }, { droppedMessages: 0, queueOverflows: 0 })
    })
  }

  it('fifteen hundred of each kind arrive with nothing configured', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1)
    numbered(1500).forEach((index) => kinds.forEach(([, , publish]) => publish(site, index)))
    for (const [, type] of kinds) await client.takeMany(type, 1500)
    assert.equal(site.service.getStats().droppedMessages, 0)
  })
})

describe('more than the queue may hold', () => {
  it('is refused, counted and told at most once a second; everything else arrives in order', async (test) => {
    const site = await TestServer.open(test, { maxQueueBytes: 4096, maxBackpressure: 64 * 1024 * 1024 })
    const client = await site.follower('ann', 1)
    const errors: string[] = []
    const told = new Promise<Error & { code: string }>((resolve) => {
      site.service.on('error', (error) => {
        errors.push(error.code)
        resolve(error)
      })
    })
    let published = 0
    const begun = performance.now()
    while (site.service.getStats().queueOverflows < 10) {
      site.service.sendUserNotification('ann', { ...notice('x'.repeat(1000)), data: { index: published++ } })
    }
    const { queueOverflows, droppedMessages } = site.service.getStats()
    const seconds = Math.ceil((performance.now() - begun) / 1000)
    assert.equal(droppedMessages, queueOverflows)
    const indexes = (await client.takeMany('notification', published - queueOverflows)).map((message) => message['notification'].data.index as number)
    assert.deepEqual(indexes, [...new Set(indexes)].sort((a, b) => a - b))
    const error = await told
    assert.ok(error instanceof Error)
    assert.equal(error.code, 'ERR_OVERLOADED')
    site.service.sendUserNotification('ann', notice('there is room again'))
    assert.equal((await client.take('notification'))['notification'].title, 'there is room again')
    assert.ok(errors.length >= 1 && errors.length <= seconds, `${errors.length} events in ${seconds} s`)
  })

  it('is no error without a listener', async (test) => {
    const site = await TestServer.open(test, { maxQueueBytes: 1024 })
    const client = await site.connect('ann')
    while (site.service.getStats().queueOverflows === 0) site.service.sendUserNotification('ann', notice('x'.repeat(900)))
    await client.probe()
  })
})

describe('arguments', () => {
  const odd = [undefined, null, true, 7, 'text', 7n, Symbol('s'), [], () => {}]
  const without = (...kinds: string[]): unknown[] => odd.filter((value) => !kinds.includes(Array.isArray(value) ? 'array' : typeof value))

  const wrong: Array<[name: string, values: unknown[], call: (site: TestServer, value: never) => void]> = [
    ['billId', [...without('number'), {}, '42', 0, -1, 1.5, NaN, Infinity, 2 ** 53], (site, value) => site.service.broadcastBillUpdate(value, update())],
    ['update', without('object').concat([null]), (site, value) => site.service.broadcastBillUpdate(1, value)],
    ['update.type', [...without('string'), {}], (site, value) => site.service.broadcastBillUpdate(1, update({}, { type: value }))],
    [
      'update.timestamp',
      [...without('number'), {}, 'yesterday', '', NaN, Infinity, 8.64e15 + 1, new Date(NaN)],
      (site, value) => site.service.broadcastBillUpdate(1, update({}, { timestamp: value })),
    ],
    ['userId', [...without('string'), {}], (site, value) => site.service.sendUserNotification(value, notice(''))],
    ['notification', without('object').concat([null]), (site, value) => site.service.sendUserNotification('ann', value)],
    ['message', without('object').concat([null]), (site, value) => site.service.broadcastToAll(value)],
    ['message.type', [...without('string'), {}], (site, value) => site.service.broadcastToAll({ type: value, data: {} })],
  ]
  for (const [name, values, call] of wrong) {
    it(`${name}: what is wrong is named`, async (test) => {
      const site = await TestServer.open(test)
      const client = await site.follower('ann', 1)
      for (const value of values) {
        const described = typeof value === 'symbol' ? 'a symbol' : `${typeof value} ${String(value)}`
        assert.throws(
          () => call(site, value as never),
          { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: new RegExp(`"?${name.replace('.', '\\.')}"?`) },
          described,
        )
      }
      await site.settled('ann', client)
      assert.deepEqual(client.messages.filter(({ type }) => type !== 'notification').map(({ type }) => type), ['connected', 'batch_subscribed', 'ack'])
      assert.equal(site.service.getStats().totalBroadcasts, 0)
    })
  }

  it('that cannot be serialised: the caller gets the exception and nothing is half sent', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1)
    const cyclic: Record<string, unknown> = {}
    cyclic['self'] = { cyclic }
    const mine = new Error('mine')
    const fail = (): never => {
      throw mine
    }
    const data: Array<[Record<string, unknown>, object]> = [
      [{ a: 1, big: 1n }, { name: 'TypeError', message: /BigInt/ }],
      [cyclic, { name: 'TypeError', message: /circular/i }],
      [{ a: 1, b: { toJSON: fail } }, mine],
      [Object.defineProperty({ a: 1 }, 'b', { enumerable: true, get: fail }), mine],
    ]
    for (const [given, expected] of data) {
      const caught = (action: () => void): unknown => {
        try {
          action()
        } catch (error) {
          return error
        }
        return assert.fail('nothing was thrown')
      }
      const exceptions = [
        caught(() => site.service.broadcastBillUpdate(1, update(given))),
        caught(() => site.service.sendUserNotification('ann', { ...notice(''), data: given })),
        caught(() => site.service.broadcastToAll({ type: 'announcement', data: given })),
      ]
      for (const exception of exceptions) {
        if (expected === mine) assert.equal(exception, mine)
        else assert.throws(() => { throw exception }, expected)
      }
    }
    assert.equal(site.service.getStats().totalBroadcasts, 0)
    site.service.broadcastBillUpdate(1, update({ a: 1 }))
    await site.settled('ann', client)
    assert.deepEqual(client.messages.map(({ type }) => type).sort(), ['ack', 'batch_subscribed', 'bill_update', 'connected', 'notification'])
  })

  it('are taken as they are at the time of the call', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1)
    const data = { text: 'before' }
    site.service.broadcastBillUpdate(1, update(data))
    site.service.sendUserNotification('ann', { ...notice(''), data })
    data.text = 'after'
    assert.equal((await client.take('bill_update'))['update'].data.text, 'before')
    assert.equal((await client.take('notification'))['notification'].data.text, 'before')
  })

  it('may give a time as a Date, as ISO 8601 or in milliseconds', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.follower('ann', 1)
    const times: Array<[Date | string | number, string]> = [
      [AT, AT.toISOString()],
      [AT.toISOString(), AT.toISOString()],
      ['2026-03-01T13:00:00+01:00', AT.toISOString()],
      [+AT, AT.toISOString()],
      [0, '1970-01-01T00:00:00.000Z'],
      [-1, '1969-12-31T23:59:59.999Z'],
      [new Date(8.64e15), '+275760-09-13T00:00:00.000Z'],
      [new Date(-8.64e15), '-271821-04-20T00:00:00.000Z'],
    ]
    for (const [index, [timestamp, iso]] of times.entries()) {
      site.service.broadcastBillUpdate(1, update({ index }, { timestamp }))
      const { update: sent, timestamp: outer } = await client.take('bill_update')
      assert.deepEqual([sent.timestamp, outer], [iso, iso], String(timestamp))
      site.service.broadcastToAll({ type: 'announcement', data: {}, timestamp })
      assert.equal((await client.take('announcement'))['timestamp'], iso)
    }
  })
})

describe('the JSON of a publish', () => {
  class Money {
    readonly cents = 7
    get shown(): string {
      return '0.07'
    }
  }
  const values: Array<[name: string, data: Record<string, unknown>]> = [
    ['undefined, functions and symbols', { a: undefined, b: () => 1, c: Symbol('c'), d: [undefined, () => 1, Symbol('d')], [Symbol('e')]: 1 }],
    ['numbers', { a: NaN, b: Infinity, c: -Infinity, d: -0, e: 1e21, f: 1e-7, g: 0.1 + 0.2, h: 2 ** 53, i: 5e-324 }],
    ['dates', { a: AT, b: [AT], c: new Date(NaN), d: new Date(8.64e15) }],
    ['toJSON', { a: { toJSON: () => 'text' }, b: { toJSON: (key: string) => ({ key }) }, c: { toJSON: () => undefined } }],
    ['lone surrogates', { a: '\ud800', b: 'x\udfffy', c: '\ude00\ud83d', d: '😀', '\ud800': 1 }],
    ['line separators and control characters', { a: '\u2028\u2029', b: '\u0000\u0007\b\f\n\r\t\u001f\u007f', c: '"\\/</script>' }],
    ['holes and odd members', { a: [1, , 3], b: Object.assign([1], { x: 1 }), c: new Array(3) }],
    ['members that look like numbers', { b: 1, 2: 2, 1: 1, a: 2, '01': 3 }],
    ['members named as of prototypes', JSON.parse('{"__proto__":{"a":1},"constructor":2,"toString":3}')],
    ['instances', { a: new Money(), b: new Map([[1, 2]]), c: new Set([1]), d: new Uint8Array([1, 2]), e: /x/, f: new Error('e') }],
    ['boxed values', { a: new Number(7), b: new String('s'), c: new Boolean(false), d: Object(Symbol('s')) }],
    ['an object without a prototype', Object.assign(Object.create(null), { a: 1 })],
    ['nothing', {}],
    ['text in many scripts', { a: 'Ω≈ç√∫˜µ≤≥÷ 日本語 العربية \u{1F468}\u200D\u{1F469}' }],
    ['a large text', { a: 'ü'.repeat(200_000) }],
  ]
  for (const [name, data] of values) {
    it(`is what JSON.stringify makes of it: ${name}`, async (test) => {
      const site = await TestServer.open(test, { batching: 'frames' })
      const client = await site.follower('ann', 1)
      const start = client.frames.length
      const given = { ...update(data), extra: data }
      const notification = { ...notice('title'), data, extra: data }
      const message = { type: 'announcement', data, extra: data }
      site.service.broadcastBillUpdate(1, given)
      await client.take('bill_update')
      site.service.sendUserNotification('ann', notification)
      await client.take('notification')
      site.service.broadcastToAll(message)
      await client.take('announcement')
      const [bill, note, announcement] = client.frames.slice(start)
      assert.equal(bill, `{"type":"bill_update","bill_id":1,"update":${JSON.stringify(given)},"timestamp":"${AT.toISOString()}"}`)
      const iso = JSON.parse(note ?? '').timestamp as string
      assert.match(iso, ISO)
      assert.equal(note, `{"type":"notification","notification":${JSON.stringify(notification)},"timestamp":"${iso}","priority":"immediate"}`)
      const timestamp = JSON.parse(announcement ?? '').timestamp as string
      assert.equal(announcement, JSON.stringify({ ...message, timestamp, priority: 'immediate' }))
    })
  }

  const at = AT.toISOString()
  class Bulletin {
    type = 'announcement'
    data = {}
    toJSON(): object {
      return { type: 'other' }
    }
  }
  const messages: Array<[string, object, object]> = [
    ['a time among its members', { type: 'announcement', timestamp: AT, data: {} }, { type: 'announcement', timestamp: at, data: {} }],
    ['a time as text', { timestamp: at, type: 'announcement', data: {} }, { timestamp: at, type: 'announcement', data: {} }],
    ['without a time it has inherited', Object.create({ timestamp: AT }, properties({ type: 'announcement', data: {} })), { type: 'announcement', data: {} }],
    ['a member for its time, without one', { timestamp: undefined, type: 'announcement', data: {} }, { type: 'announcement', data: {} }],
    ['a priority before its data', { type: 'announcement', priority: 'low', data: {} }, { type: 'announcement', priority: '', data: {} }],
    ['a form of its own', new Bulletin(), { type: 'other' }],
    ['a form of its own, as a member', { type: 'announcement', data: {}, toJSON: () => ({ type: 'other' }) }, { type: 'other' }],
  ]
  for (const [name, message, expected] of messages) {
    it(`is a copy with a priority and a time: ${name}`, async (test) => {
      const site = await TestServer.open(test)
      const client = await site.follower('ann', 1)
      const start = client.frames.length
      site.service.broadcastToAll(message as never)
      site.service.broadcastToAll({ type: 'behind', data: {} })
      await client.take('behind')
      const [text] = client.frames.slice(start)
      const additions = { timestamp: JSON.parse(text ?? '').timestamp as string, priority: 'immediate' }
      assert.equal(text, JSON.stringify({ ...expected, ...additions }))
    })
  }

  it('overwrites the priority, and keeps the time given, of a message to all', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    site.service.broadcastToAll({ type: 'announcement', priority: 'low', timestamp: AT, data: {}, extra: [1] } as never)
    assert.deepEqual(await client.take('announcement'), {
      type: 'announcement', priority: 'immediate', timestamp: AT.toISOString(), data: {}, extra: [1],
    })
  })
})
