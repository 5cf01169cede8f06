import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { CarillonClient, type ServerMessage, type SubscriptionHandlers } from 'carillon-client'
import { type FakeSocket, makeClient, settle, socket } from './fake-socket.js'

const TIME = '2026-01-01T00:00:00.000Z'

function update(bill_id: number, text: string, pos?: string): ServerMessage {
  return { type: 'bill_update', bill_id, update: { type: 'new_comment', data: text, timestamp: TIME }, timestamp: TIME, ...(pos && { pos }) }
}

/** Writes down what a subscription is told. */
function log() {
  const lines: string[] = []
  const handlers: SubscriptionHandlers<any> = {
    onUpdate: (data, { replayed }) => lines.push(`${data?.data ?? data}${replayed ? ' (replayed)' : ''}`),
    onGap: ({ reason }) => lines.push(`gap ${reason}`),
    onError: ({ code }) => lines.push(`error ${code}`),
    onPresence: ({ userId, joined }) => lines.push(`${userId} ${joined ? 'joined' : 'left'}`),
  }
  return { lines, handlers }
}

async function reconnect(connection: FakeSocket, tick: (ms: number) => void): Promise<FakeSocket> {
  connection.end()
  tick(1000)
  const next = (await socket()).open()
  await settle()
  return next
}

describe('subscribing', () => {
  it('asks once for everything that is subscribed in one turn', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    client.bill(1)
    client.bill(2)
    client.channel('chat:1')
    await settle()
    const [request, ...others] = connection.of('batch_subscribe')
    assert.deepEqual(request!.data, { bill_ids: [1, 2], channels: ['chat:1'], since: { 1: null, 2: null, 'chat:1': null } })
    assert.equal(others.length, 0)
  })

  it('asks once for a topic with many subscriptions, and leaves it with the last', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    const [first, second] = [client.bill(1), client.bill(1)]
    await settle()
    connection.confirm()
    assert.deepEqual([first.state, second.state, client.bill(1).state], ['subscribed', 'subscribed', 'subscribed'])
    first.unsubscribe()
    await settle()
    assert.equal(connection.of('batch_unsubscribe').length, 0)
  })

  it('tells the server when the last subscription is gone', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    const [bill, channel] = [client.bill(1), client.channel('c')]
    await settle()
    connection.confirm()
    bill.unsubscribe()
    channel.unsubscribe()
    channel.unsubscribe()
    await settle()
    assert.deepEqual(connection.sent.slice(-2), [
      { type: 'unsubscribe', data: { channel: 'c' } },
      { type: 'batch_unsubscribe', data: { bill_ids: [1] } },
    ])
  })

  it('costs nothing when it is taken back in the same turn', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    client.bill(1).unsubscribe()
    const kept = client.bill(2)
    kept.unsubscribe()
    client.bill(2)
    await settle()
    assert.deepEqual(connection.sent.map(({ data }) => data.bill_ids), [[2]])
  })

  it('splits what would be longer than a message may be', async (t) => {
    const { client } = makeClient(t)
    for (let bill = 1; bill <= 5000; bill++) client.bill(bill)
    const connection = (await socket()).open()
    await settle()
    const requests = connection.of('batch_subscribe')
    assert.ok(requests.length > 1)
    for (const request of requests) assert.ok(JSON.stringify(request).length < 102_400)
    assert.equal(new Set(requests.flatMap(({ data }) => data.bill_ids)).size, 5000)
  })

  it('tells of refusals, and asks again after a reconnect', async (t) => {
    const { client, tick } = makeClient(t)
    const { lines, handlers } = log()
    let connection = (await socket()).open()
    const bill = client.bill(1, handlers)
    const channel = client.channel('secret', handlers)
    await settle()
    connection.confirm({ subscribed: [], failed: [1, { channel: 'secret', code: 'unavailable' }] })
    assert.deepEqual(lines, ['error forbidden', 'error unavailable'])
    assert.deepEqual([bill.state, channel.state], ['refused', 'refused'])
    connection = await reconnect(connection, tick)
    connection.confirm()
    assert.deepEqual([bill.state, channel.state], ['subscribed', 'subscribed'])
  })

  it('tells when the whole request was refused', async (t) => {
    const { client } = makeClient(t)
    const { lines, handlers } = log()
    const connection = (await socket()).open()
    client.bill(1, handlers)
    await settle()
    const { messageId } = connection.of('batch_subscribe')[0]!
    connection.receive({ type: 'error', message: 'Invalid batch subscription request', messageId: messageId! })
    assert.deepEqual(lines, ['error rejected'])
  })

  it('tells when the service knows no channels', async (t) => {
    const { client } = makeClient(t)
    const { lines, handlers } = log()
    const connection = (await socket()).open()
    client.bill(1, handlers)
    client.channel('c', handlers)
    await settle()
    connection.confirm({ subscribed: [1] })
    assert.deepEqual(lines, ['error rejected'])
  })

  it('refuses what is no topic', (t) => {
    const { client } = makeClient(t)
    for (const id of [0, -1, 1.5, Number.NaN, 2 ** 53]) assert.throws(() => client.bill(id), TypeError)
    for (const name of ['', 'a b', 'ä', 'x'.repeat(256)]) assert.throws(() => client.channel(name), TypeError)
  })
})

describe('publications', () => {
  it('reach their subscriptions, also out of a batch', async (t) => {
    const { client } = makeClient(t)
    const [one, two] = [log(), log()]
    client.bill(1, one.handlers)
    client.bill(2, two.handlers)
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    connection.receive({ type: 'batch', messages: [update(1, 'a'), update(2, 'b'), update(3, 'c')] }).receive(update(1, 'd'))
    assert.deepEqual([one.lines, two.lines], [['a', 'd'], ['b']])
  })

  it('of bytes arrive as bytes', async (t) => {
    const { client } = makeClient(t)
    const received: Uint8Array[] = []
    client.channel<Uint8Array>('c', { onUpdate: (data) => received.push(data) })
    const connection = (await socket()).open()
    await settle()
    connection.confirm().receive({ type: 'message', channel: 'c', data: 'AP8=', encoding: 'base64', timestamp: TIME })
    assert.deepEqual(received, [new Uint8Array([0, 255])])
  })

  it('can be read in a loop, which ends with the subscription', async (t) => {
    const { client } = makeClient(t)
    const room = client.channel<string>('c')
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    const read: string[] = []
    const loop = (async () => {
      for await (const { data } of room) read.push(data)
    })()
    for (const data of ['a', 'b']) connection.receive({ type: 'message', channel: 'c', data, timestamp: TIME })
    await settle()
    connection.receive({ type: 'message', channel: 'c', data: 'c', timestamp: TIME })
    room.unsubscribe()
    await loop
    assert.deepEqual(read, ['a', 'b', 'c'])
    for await (const _ of room) assert.fail('a closed subscription has no messages')
  })

  it('that a loop does not read in time are dropped, oldest first, and a gap is told', async (t) => {
    const { client } = makeClient(t)
    const { lines, handlers } = log()
    const room = client.channel<number>('c', { onGap: handlers.onGap! })
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    const iterator = room[Symbol.asyncIterator]()
    for (let data = 0; data <= 1000; data++) connection.receive({ type: 'message', channel: 'c', data, timestamp: TIME })
    assert.equal((await iterator.next()).value?.data, 1)
    assert.deepEqual(lines, ['gap slow'])
    await iterator.return?.()
  })

  it('tell who joined and left', async (t) => {
    const { client } = makeClient(t)
    const { lines, handlers } = log()
    client.channel('c', handlers)
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    for (const type of ['presence_join', 'presence_leave'] as const) {
      connection.receive({ type, data: { channel: 'c', user_id: 'alice' } })
    }
    assert.deepEqual(lines, ['alice joined', 'alice left'])
  })
})

describe('resuming', () => {
  async function resumed(t: TestContext) {
    const { client, tick } = makeClient(t)
    const { lines, handlers } = log()
    const bill = client.bill(42, handlers)
    const first = (await socket()).open()
    await settle()
    first.confirm({ pos: { 42: 'e:10:n-10' } }).receive(update(42, 'a', 'e:11:n-11'))
    const connection = await reconnect(first, tick)
    return { bill, lines, connection, tick }
  }

  it('asks for what follows the newest publication that was received', async (t) => {
    const { connection } = await resumed(t)
    assert.deepEqual(connection.of('batch_subscribe')[0]!.data, { bill_ids: [42], since: { 42: 'e:11:n-11' } })
  })

  it('delivers what was missed, once and marked, and then what is new', async (t) => {
    const { lines, connection } = await resumed(t)
    connection.confirm({ recovered: [42], pos: { 42: 'e:13:n-13' } })
    connection.receive({ type: 'batch', messages: [update(42, 'b', 'e:12:n-12'), update(42, 'c', 'e:13:n-13')] })
    connection.receive(update(42, 'c', 'e:13:n-13')).receive(update(42, 'd', 'e:14:n-14'))
    assert.deepEqual(lines, ['a', 'b (replayed)', 'c (replayed)', 'd'])
  })

  it('recognises a publication that was stored again at another offset', async (t) => {
    const { lines, connection } = await resumed(t)
    connection.confirm({ recovered: [42], pos: { 42: 'e:12:n-11' } }).receive(update(42, 'a', 'e:12:n-11'))
    assert.deepEqual(lines, ['a'])
  })

  it('goes on from the last one received when the connection is lost during a replay', async (t) => {
    const { connection, tick } = await resumed(t)
    connection.confirm({ recovered: [42], pos: { 42: 'e:13:n-13' } }).receive(update(42, 'b', 'e:12:n-12'))
    connection.end()
    tick(2000)
    const next = (await socket()).open()
    await settle()
    assert.deepEqual(next.of('batch_subscribe')[0]!.data.since, { 42: 'e:12:n-12' })
  })

  it('tells a gap when the server lost continuity, after the time it asks for', async (t) => {
    const { lines, connection, tick } = await resumed(t)
    connection.confirm({ lost: { 42: 'expired' }, pos: { 42: 'f:3:m-3' }, reload_in: 1830 })
    tick(1829)
    assert.deepEqual(lines, ['a'])
    tick(1)
    assert.deepEqual(lines, ['a', 'gap expired'])
    const next = await reconnect(connection, (ms) => tick(ms * 2))
    assert.deepEqual(next.of('batch_subscribe')[0]!.data.since, { 42: 'f:3:m-3' })
  })

  it('tells a gap on a live connection', async (t) => {
    const { lines, connection, tick } = await resumed(t)
    connection.confirm({ recovered: [42], pos: { 42: 'e:11:n-11' } })
    connection.receive({ type: 'gap', data: { bill_id: 42, reason: 'fork', reload_in: 10, pos: 'e:20:m-1' } })
    tick(10)
    assert.deepEqual(lines, ['a', 'gap fork'])
  })

  it('does not tell a gap of what is no longer followed', async (t) => {
    const { bill, lines, connection, tick } = await resumed(t)
    connection.confirm({ lost: { 42: 'expired' }, reload_in: 100 })
    bill.unsubscribe()
    await settle()
    tick(100)
    assert.deepEqual(lines, ['a'])
  })

  it('tells a gap after every reconnect to a service without history', async (t) => {
    const { lines, connection, tick } = await resumed(t)
    connection.confirm()
    tick(0)
    assert.deepEqual(lines, ['a', 'gap unsupported'])
    connection.receive(update(42, 'b'))
    assert.equal(lines.at(-1), 'b')
  })

  it('misses nothing with the first subscription', async (t) => {
    const { client, tick } = makeClient(t)
    const { lines, handlers } = log()
    client.bill(7, handlers)
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    tick(10)
    assert.deepEqual(lines, [])
  })
})

describe('the end of the client', () => {
  it('ends every subscription and every loop', async (t) => {
    const { client } = makeClient(t)
    const states: string[] = []
    const room = client.channel('c', { onState: (state) => states.push(state) })
    const connection = (await socket()).open()
    await settle()
    connection.confirm()
    const next = room[Symbol.asyncIterator]().next()
    client.close()
    assert.equal((await next).done, true)
    assert.deepEqual(states, ['pending', 'subscribed', 'closed'])
    assert.ok(client instanceof CarillonClient)
  })
})
