// What clients say and are answered: the complete list, in exact JSON, and everything that is not on it.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { WebSocketServiceOptions } from 'carillon'
import type { Client } from './support/client.mjs'
import { Opcode, closeFrame, frame, text } from './support/raw.mjs'
import { Cleanup, TestServer, type Scope } from './support/server.mjs'
import { within } from './support/waiting.mjs'

/** Every message in a frame of its own, so that its text can be looked at. */
const FRAMES: WebSocketServiceOptions = { batching: 'frames', runtime: { MESSAGE_BATCH_DELAY: 5 } }
const ISO = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/
const MAX_PAYLOAD = 102_400

/** The frames a request is answered with; times are replaced by `<iso>`. */
async function ask(client: Client, request: unknown): Promise<string[]> {
  const start = client.frames.length
  client.sendText(typeof request === 'string' ? request : JSON.stringify(request))
  await client.probe()
  return client.frames.slice(start, -1).map((answer) => answer.replace(new RegExp(ISO, 'g'), '<iso>'))
}

const error = (message: string): string => JSON.stringify({ type: 'error', message })
const errorAbout = (message: string, messageId: unknown): string => JSON.stringify({ type: 'error', message, messageId })
const ack = (messageId: unknown): string => JSON.stringify({ type: 'ack', messageId })
const PONG = '{"type":"pong","priority":"immediate"}'
const STRUCTURE = error('Invalid message structure')

/** One connection answers a whole table: an error must leave it usable. */
function table(name: string, rows: Array<[name: string, request: unknown, replies: string[]]>): void {
  describe(name, () => {
    let client: Client
    const cleanup = new Cleanup()
    before(async () => {
      const site = await TestServer.open(cleanup, FRAMES)
      client = await site.connect('ann')
      await client.take('connected')
    })
    after(() => cleanup.run())
    for (const [row, request, replies] of rows) {
      it(row, async () => assert.deepEqual(await ask(client, request), replies))
    }
  })
}

const subscribed = (echo: string, words: string): string =>
  `{"type":"subscribed","data":{"bill_id":${echo},"message":"Subscribed to bill ${words} updates"}}`
const unsubscribed = (echo: string, words: string): string =>
  `{"type":"unsubscribed","data":{"bill_id":${echo},"message":"Unsubscribed from bill ${words} updates"}}`
const batchSubscribed = (accepted: string, failed: string, words: string): string =>
  `{"type":"batch_subscribed","data":{"subscribed":${accepted},"failed":${failed},"message":"Subscribed to ${words}"}}`
const batchUnsubscribed = (bills: string, count: number): string =>
  `{"type":"batch_unsubscribed","data":{"unsubscribed":${bills},"message":"Unsubscribed from ${count} bills"}}`

table('subscribe', [
  ['a number', '{"type":"subscribe","data":{"bill_id":42}}', [subscribed('42', '42')]],
  ['a number written with a fraction', '{"type":"subscribe","data":{"bill_id":42.0}}', [subscribed('42', '42')]],
  ['a number written with an exponent', '{"type":"subscribe","data":{"bill_id":4.2e1}}', [subscribed('42', '42')]],
  ['the largest id', '{"type":"subscribe","data":{"bill_id":9007199254740991}}', [subscribed('9007199254740991', '9007199254740991')]],
  ['digits are echoed as they were sent', '{"type":"subscribe","data":{"bill_id":"42"}}', [subscribed('"42"', '42')]],
  ['types of updates have no effect', '{"type":"subscribe","data":{"bill_id":42,"subscriptionTypes":["amendment"]}}', [subscribed('42', '42')]],
  ['again', '{"type":"subscribe","data":{"bill_id":42}}', [subscribed('42', '42')]],
  ['unknown members are ignored', '{"x":1,"type":"subscribe","data":{"bill_id":1,"y":2},"z":[3]}', [subscribed('1', '1')]],
  ['of two members the last one counts', '{"type":"ping","type":"subscribe","data":{"bill_id":1,"bill_id":2}}', [subscribed('2', '2')]],
  ['no data', '{"type":"subscribe"}', [error('Bill ID required')]],
  ['no id', '{"type":"subscribe","data":{}}', [error('Bill ID required')]],
  ['the spelling of early clients', '{"type":"subscribe","data":{"billId":42}}', [error('Bill ID required')]],
  ['the topics of later clients', '{"type":"subscribe","topic":"bills","data":{"subscriptions":[{"id":"1"}]}}', [error('Bill ID required')]],
  ['an id in a prototype', '{"type":"subscribe","data":{"__proto__":{"bill_id":42}}}', [error('Bill ID required')]],
  ...['null', '0', '""', 'false', '-0'].map(
    (id): [string, string, string[]] => [`an id that is ${id}`, `{"type":"subscribe","data":{"bill_id":${id}}}`, [error('Bill ID required')]],
  ),
  ...['null', '7', '"bill_id"', 'true', '[42]'].map(
    (data): [string, string, string[]] => [`data that is ${data}`, `{"type":"subscribe","data":${data}}`, [error('Bill ID required')]],
  ),
  ...['-1', '1.5', 'true', '{}', '[]', '[42]', '"abc"', '"-1"', '"4.2"', '"1e3"', '"0"', '9007199254740992', '1e300', '"9007199254740992"'].map(
    (id): [string, string, string[]] => [`an id that is ${id}`, `{"type":"subscribe","data":{"bill_id":${id}}}`, [error('Invalid bill ID')]],
  ),
])

table('unsubscribe', [
  ['a bill not followed', '{"type":"unsubscribe","data":{"bill_id":42}}', [unsubscribed('42', '42')]],
  ['digits', '{"type":"unsubscribe","data":{"bill_id":"42"}}', [unsubscribed('"42"', '42')]],
  ['no id: silence', '{"type":"unsubscribe","data":{}}', []],
  ['no data: silence', '{"type":"unsubscribe","topic":"bills"}', []],
  ['the topics of later clients: silence', '{"type":"unsubscribe","data":{"topics":["bills"]}}', []],
  ['an id that is 0: silence', '{"type":"unsubscribe","data":{"bill_id":0}}', []],
  ['no id, but an id of the message', '{"type":"unsubscribe","messageId":"a"}', [ack('a')]],
])

table('batch_subscribe', [
  ['ids', '{"type":"batch_subscribe","data":{"bill_ids":[1,2,3]}}', [batchSubscribed('[1,2,3]', '[]', '3 bills')]],
  ['none', '{"type":"batch_subscribe","data":{"bill_ids":[]}}', [batchSubscribed('[]', '[]', '0 bills')]],
  ['one', '{"type":"batch_subscribe","data":{"bill_ids":[1]}}', [batchSubscribed('[1]', '[]', '1 bills')]],
  ['one twice', '{"type":"batch_subscribe","data":{"bill_ids":[7,7.0,7]}}', [batchSubscribed('[7,7,7]', '[]', '3 bills')]],
  [
    'some that are none',
    '{"type":"batch_subscribe","data":{"bill_ids":[1,"2",0,-3,1.5,null,true,{"a":[1]},9]}}',
    [batchSubscribed('[1,9]', '["2",0,-3,1.5,null,true,{"a":[1]}]', '2 bills, 7 failed')],
  ],
  ...['null', '1', '"1,2"', '{"0":1}', 'true'].map(
    (ids): [string, string, string[]] => [`ids that are ${ids}`, `{"type":"batch_subscribe","data":{"bill_ids":${ids}}}`, [error('Invalid batch subscription request')]],
  ),
  ['no data', '{"type":"batch_subscribe"}', [error('Invalid batch subscription request')]],
])

table('batch_unsubscribe', [
  ['ids', '{"type":"batch_unsubscribe","data":{"bill_ids":[1,2]}}', [batchUnsubscribed('[1,2]', 2)]],
  ['none', '{"type":"batch_unsubscribe","data":{"bill_ids":[]}}', [batchUnsubscribed('[]', 0)]],
  ['anything in a list', '{"type":"batch_unsubscribe","data":{"bill_ids":[1,"x",null,{"a":1},-2]}}', [batchUnsubscribed('[1,"x",null,{"a":1},-2]', 5)]],
  ['no list', '{"type":"batch_unsubscribe","data":{"bill_ids":1}}', [error('Invalid batch unsubscription request')]],
  ['no data', '{"type":"batch_unsubscribe"}', [error('Invalid batch unsubscription request')]],
])

const PREFERENCES =
  '{"type":"preferences","data":{"updateFrequency":"immediate","notificationTypes":["status_change","new_comment","amendment","voting_scheduled"]},"timestamp":"<iso>"}'
const updated = (data: string): string =>
  `{"type":"preferences_updated","data":${data},"message":"Preferences updated successfully","timestamp":"<iso>"}`

table('preferences', [
  ['are constant', '{"type":"get_preferences"}', [PREFERENCES]],
  ['are echoed', '{"type":"update_preferences","data":{"preferences":{"b":[1,{"c":null}],"a":"ü\\u00e9"}}}', [updated('{"b":[1,{"c":null}],"a":"ü\\u00e9","lastUpdated":"<iso>"}')]],
  ['may be empty', '{"type":"update_preferences","data":{"preferences":{}}}', [updated('{"lastUpdated":"<iso>"}')]],
  ['know better when they were updated', '{"type":"update_preferences","data":{"preferences":{"lastUpdated":"never","a":1}}}', [updated('{"lastUpdated":"<iso>","a":1}')]],
  ['are not stored', '{"type":"get_preferences"}', [PREFERENCES]],
  ['must be given', '{"type":"update_preferences","data":{}}', [error('Preferences data required')]],
  ['must be given with the data', '{"type":"update_preferences"}', [error('Preferences data required')]],
  ...['true', '1', '"text"', '[]', '["a"]'].map(
    (given): [string, string, string[]] => [`must not be ${given}`, `{"type":"update_preferences","data":{"preferences":${given}}}`, [error('Preferences data required')]],
  ),
  ['go back as they came', '{"type":"update_preferences","data":{"preferences":{ "b" : 1.0, "a": "\\ud800", "b":2 }}}', [updated('{ "b" : 1.0, "a": "\\ud800", "b":2 ,"lastUpdated":"<iso>"}')]],
  ['must not be null', '{"type":"update_preferences","data":{"preferences":null}}', [error('Preferences data required')]],
])

table('acks', [
  ['come first', '{"type":"subscribe","data":{"bill_id":1},"messageId":"m1"}', [ack('m1'), subscribed('1', '1')]],
  ['come before an error, which names the message', '{"type":"subscribe","messageId":"m2"}', [ack('m2'), errorAbout('Bill ID required', 'm2')]],
  ['come before an unknown type', '{"type":"nonsense","messageId":"m3"}', [ack('m3'), errorAbout('Unknown message type: nonsense', 'm3')]],
  ['come behind a pong', '{"type":"ping","messageId":"m4"}', [PONG, ack('m4')]],
  ...['"text"', '1', '-1.5', 'true', '[]', '[1,"a"]', '{}', '{"b":1,"a":{"c":null}}'].map(
    (id): [string, string, string[]] => [`echo ${id}`, `{"type":"unsubscribe","messageId":${id}}`, [`{"type":"ack","messageId":${id}}`]],
  ),
  ...['""', '0', 'false', 'null'].map((id): [string, string, string[]] => [`are not given for ${id}`, `{"type":"unsubscribe","messageId":${id}}`, []]),
  ['are given again for the same message', '{"type":"unsubscribe","messageId":"m1"}', [ack('m1')]],
])

table('ping and pong', [
  ['a ping has its pong', '{"type":"ping"}', [PONG]],
  ['a ping may carry anything', '{"type":"ping","data":[1],"timestamp":"now"}', [PONG]],
  ['a pong has no answer', '{"type":"pong"}', []],
  ['a pong is acknowledged', '{"type":"pong","messageId":1}', [ack(1)]],
])

table('types that are unknown', [
  ...['nonsense', 'batch', 'heartbeat', 'room:join', 'updatePreferences', 'Ping', 'SUBSCRIBE', ' ping', '', 'constructor', '__proto__', 'toString', 'ü\u2028"\\'].map(
    (type): [string, unknown, string[]] => [JSON.stringify(type), { type }, [error(`Unknown message type: ${type}`)]],
  ),
  ...(
    [['null', 'null'], ['123', '123'], ['1.50', '1.5'], ['true', 'true'], ['{"a":1}', '[object Object]'], ['[]', ''], ['[1,[2,null],"x"]', '1,2,,x']] as const
  ).map(([type, words]): [string, string, string[]] => [`${type} in words`, `{"type":${type}}`, [error(`Unknown message type: ${words}`)]]),
])

table('what has no structure', [
  ...['null', '7', '"ping"', 'true', '[]', '[{"type":"ping"}]', '{}', '{"Type":"ping"}', '{"data":{"type":"ping"}}'].map(
    (message): [string, string, string[]] => [message, message, [STRUCTURE]],
  ),
  ['names its message', '{"messageId":"m1"}', ['{"type":"error","message":"Invalid message structure","messageId":"m1"}']],
  ['names it without an ack', '{"messageId":{"a":1},"data":{}}', ['{"type":"error","message":"Invalid message structure","messageId":{"a":1}}']],
  ['is what a community client sends', '{"event":"join_room","data":{}}', [STRUCTURE]],
])

describe('what is not JSON', () => {
  it('is answered with an error, and the connection stays usable', async (test) => {
    const site = await TestServer.open(test, FRAMES)
    const client = await site.connect('ann')
    await client.take('connected')
    const texts = ['', ' ', '{', '{"type":"ping"', '{"type":"ping"}}', '{"type":"ping"} x', "{'type':'ping'}", '{"type":"ping",}', '\ufeff{"type":"ping"}', 'undefined', 'NaN', '\u0000', '{"type":"\u0001"}', '"\\x"']
    for (const malformed of texts) {
      const [reply, ...others] = await ask(client, malformed)
      assert.match(reply ?? '', /^\{"type":"error","message":".+"\}$/, JSON.stringify(malformed))
      assert.deepEqual(others, [])
    }
    assert.deepEqual(await ask(client, { type: 'ping' }), [PONG])
    assert.equal(site.service.getStats().totalMessages, 2 * texts.length + 2)
  })

  it('may be nested as deeply as a message is long', async (test) => {
    const site = await TestServer.open(test, FRAMES)
    const client = await site.connect('ann')
    for (const opening of ['[', '{"a":']) {
      client.sendText(opening.repeat(Math.floor(MAX_PAYLOAD / opening.length)))
      await client.take('error')
    }
    await client.probe()
  })
})

describe('frames', () => {
  it('binary ones are read as text and answered with text', async (test) => {
    const site = await TestServer.open(test, FRAMES)
    const client = await site.connect('ann')
    client.socket.on('message', (_data, isBinary) => assert.equal(isBinary, false))
    client.socket.send(Buffer.from('{"type":"ping"}'))
    await client.take('pong')
    client.socket.send(Buffer.from('7b2274797065223a2261ff62227d', 'hex'))
    assert.equal((await client.take('error'))['message'], 'Unknown message type: a\ufffdb')
  })

  it('fragments are put together, with control frames in between', async (test) => {
    const site = await TestServer.open(test, FRAMES)
    const peer = await site.rawConnection('ann')
    const message = Buffer.from('{"type":"ü€😀"}')
    for (let index = 0; index < message.length; index++) {
      const isLast = index === message.length - 1
      await peer.write(frame(index === 0 ? Opcode.text : Opcode.continuation, message.subarray(index, index + 1), { fin: isLast }))
      await peer.write(frame(Opcode.ping, `ping ${index}`))
    }
    const pongs: string[] = []
    let reply = ''
    while (pongs.length < message.length || !reply.includes('Unknown')) {
      const { opcode, payload } = await peer.frame()
      if (opcode === Opcode.pong) pongs.push(payload.toString())
      else reply = payload.toString()
    }
    assert.deepEqual(pongs, pongs.map((_, index) => `ping ${index}`))
    assert.equal(reply, error('Unknown message type: ü€😀'))
  })

  it('may be cut anywhere', async (test) => {
    const site = await TestServer.open(test, FRAMES)
    const peer = await site.rawConnection('ann')
    peer.socket.setNoDelay(true)
    const bytes = Buffer.concat([text({ type: 'ping' }), frame(Opcode.ping, 'x'.repeat(125)), text({ type: 'ping', data: 'y'.repeat(300) })])
    for (const byte of bytes) await peer.write(Uint8Array.of(byte))
    const opcodes: number[] = []
    while (opcodes.length < 3) {
      const { opcode, payload } = await peer.frame()
      if (!payload.includes('connected')) opcodes.push(opcode)
    }
    assert.deepEqual(opcodes, [Opcode.text, Opcode.pong, Opcode.text])
  })

  it('a ping is answered with its payload, an unsolicited pong with nothing', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.rawConnection('ann')
    for (const payload of ['', 'abc', 'x'.repeat(125)]) {
      await peer.write(Buffer.concat([frame(Opcode.pong, payload), frame(Opcode.ping, payload)]))
      assert.equal((await peer.frameOf(Opcode.pong)).payload.toString(), payload)
    }
  })

  for (const [compressed, perMessageDeflate] of [['', false], [', compressed', true]] as const) {
    it(`a message may have exactly 102 400 bytes${compressed}`, async (test) => {
      const site = await TestServer.open(test)
      const client = await site.connect('ann', { perMessageDeflate })
      const message = (bytes: number): string => {
        const [start, end] = ['{"type":"ping","data":"', '"}']
        // Two bytes each in UTF-8: bytes count, not characters.
        const pad = bytes - start.length - end.length
        return `${start}${'ü'.repeat(Math.floor(pad / 2))}${'u'.repeat(pad % 2)}${end}`
      }
      assert.equal(Buffer.byteLength(message(MAX_PAYLOAD)), MAX_PAYLOAD)
      client.sendText(message(MAX_PAYLOAD))
      await client.take('pong')
      client.sendText(message(MAX_PAYLOAD + 1))
      assert.deepEqual(await client.whenClosed(), { code: 1009, reason: '' })
    })
  }

  it('a message limit of our own', async (test) => {
    const site = await TestServer.open(test, { base: { MAX_PAYLOAD: 100 } })
    const client = await site.connect('ann')
    assert.equal((await client.take('connected'))['data'].config.maxMessageSize, 100)
    client.sendText(JSON.stringify({ type: 'ping', data: 'x'.repeat(100) }))
    assert.deepEqual(await client.whenClosed(), { code: 1009, reason: '' })
  })

  it('a close frame is answered with its code and reason', async (test) => {
    const site = await TestServer.open(test)
    for (const [code, reason] of [[1000, 'Client disconnect'], [4000, 'Heartbeat timeout'], [1001, ''], [3000, 'ü'.repeat(61)], [undefined, '']] as const) {
      const peer = await site.rawConnection('ann')
      await peer.write(closeFrame(code, reason))
      assert.deepEqual(await peer.close(), { code, reason })
      assert.equal(await peer.rest(), '')
    }
    assert.equal(site.service.getStats().activeConnections, 0)
  })

  it('before a close frame are processed, behind it are not', async (test) => {
    const site = await TestServer.open(test)
    const bills: number[] = []
    site.service.on('subscription', ({ billId, subscribed }) => void (subscribed && bills.push(billId)))
    const gone = site.event('disconnection')
    const peer = await site.rawConnection('ann')
    const subscribe = (bill: number): Buffer => text({ type: 'subscribe', data: { bill_id: bill } })
    await peer.write(Buffer.concat([subscribe(1), closeFrame(1000), subscribe(2)]))
    assert.equal((await peer.close()).code, 1000)
    await gone
    assert.deepEqual(bills, [1])
  })

  it('the end of the stream without a close frame is a disconnection', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.rawConnection('ann')
    const gone = site.event('disconnection')
    peer.socket.end()
    assert.equal((await gone).code, 1006)
    assert.equal(site.service.isUserConnected('ann'), false)
    await within(peer.ended, 'the end')
  })
})

describe('many requests at once', () => {
  it('are all answered, in their order', async (test) => {
    const count = 5000
    const site = await TestServer.open(test, { maxSubscriptions: count })
    const client = await site.connect('ann')
    for (let index = 1; index <= count; index++) {
      client.send(index % 2 === 0 ? 'subscribe' : 'unsubscribe', { bill_id: index }, { messageId: index })
    }
    const acks = await client.takeMany('ack', count)
    assert.deepEqual(acks.map(({ messageId }) => messageId as number), Array.from({ length: count }, (_, index) => index + 1))
    assert.equal((await client.takeMany('subscribed', count / 2)).at(-1)?.['data'].bill_id, count)
    assert.equal(site.service.getUserSubscriptions('ann').length, count / 2)
    assert.equal(site.service.getStats().totalMessages, count)
  })
})

describe('preferences that the application keeps', () => {
  const load = async (): Promise<object> => ({ updateFrequency: 'daily', notificationTypes: [] })
  const save = async (): Promise<void> => {}
  const open = async (test: Scope, preferences: NonNullable<WebSocketServiceOptions['preferences']>) => {
    const site = await TestServer.open(test, { ...FRAMES, preferences })
    const client = await site.connect('ann')
    await client.take('connected')
    return { site, client }
  }

  it('are loaded for their user', async (test) => {
    const users: string[] = []
    const { client } = await open(test, { save, load: (user) => (users.push(user), load()) })
    client.send('get_preferences', undefined, { messageId: 1 })
    const reply = await client.take('preferences')
    assert.deepEqual(reply['data'], await load())
    assert.match(reply['timestamp'], ISO)
    assert.deepEqual(client.messages.slice(1).map(({ type }) => type), ['ack', 'preferences'])
    assert.deepEqual(users, ['ann'])
  })

  it('may be there at once', async (test) => {
    const { client } = await open(test, { save, load: () => ({ a: 1 }) })
    client.send('get_preferences')
    assert.deepEqual((await client.take('preferences'))['data'], { a: 1 })
  })

  it('are saved for their user', async (test) => {
    const saved: unknown[] = []
    const { client } = await open(test, { load, save: async (...given) => void saved.push(given) })
    client.send('update_preferences', { preferences: { a: [1, null], b: 'ü' } })
    const { data, message, timestamp } = await client.take('preferences_updated')
    assert.deepEqual({ data: { ...data, lastUpdated: timestamp }, message }, {
      data: { a: [1, null], b: 'ü', lastUpdated: data.lastUpdated },
      message: 'Preferences updated successfully',
    })
    assert.deepEqual(saved, [['ann', { a: [1, null], b: 'ü' }]])
    client.send('update_preferences', {})
    assert.equal((await client.take('error'))['message'], 'Preferences data required')
    assert.equal(saved.length, 1)
  })

  const failures: Array<[name: string, fail: () => unknown]> = [
    ['throw', () => { throw new Error('the database is down') }],
    ['reject', () => Promise.reject(new Error('the database is down'))],
    ['reject with nothing', () => Promise.reject(undefined)],
    ['throw something odd', () => { throw Symbol('odd') }],
    ['reject with something odd', () => Promise.reject({ toString() { throw new Error('odd') } })],
  ]
  for (const [name, fail] of failures) {
    it(`may ${name}: the client gets an error without the reason`, async (test) => {
      const { client } = await open(test, { load: fail, save: fail })
      client.send('get_preferences')
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Failed to get preferences' })
      client.send('update_preferences', { preferences: { a: 1 } })
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Failed to update preferences' })
      await client.probe()
    })
  }

  it('must have a JSON form', async (test) => {
    const odd = [() => ({ big: 1n }), async () => ({ big: 1n }), async () => ({ toJSON() { throw new Error('odd') } })]
    for (const load of odd) {
      const { client } = await open(test, { save, load })
      client.send('get_preferences')
      assert.equal((await client.take('error'))['message'], 'Failed to get preferences')
    }
  })

  it('may take their time: the connection stays usable meanwhile', async (test) => {
    let answer: (value: unknown) => void = () => {}
    const { client } = await open(test, { save, load: () => new Promise((resolve) => (answer = resolve)) })
    client.send('get_preferences')
    await client.subscribe(1)
    assert.equal(client.received('preferences').length, 0)
    answer({ late: true })
    assert.deepEqual((await client.take('preferences'))['data'], { late: true })
  })

  it('may come when their user has gone', async (test) => {
    let answer: (value: unknown) => void = () => {}
    let asked = (): void => {}
    const wasAsked = new Promise<void>((resolve) => (asked = resolve))
    const { site, client } = await open(test, {
      save,
      load: () => {
        asked()
        return new Promise((resolve) => (answer = resolve))
      },
    })
    client.send('get_preferences')
    await within(wasAsked, 'a call of load()')
    await client.close(1000)
    answer({ late: true })
    const next = await site.connect('ann')
    await next.probe()
    assert.equal(next.received('preferences').length, 0)
  })
})
