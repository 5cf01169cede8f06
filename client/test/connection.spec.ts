import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { CarillonClient, CarillonError } from 'carillon-client'
import { FakeSocket, makeClient, replaceGlobal, settle, socket } from './fake-socket.js'

describe('connecting', () => {
  it('sends the token in the URL and is open when the service has greeted', async (t) => {
    const { client, states } = makeClient(t, { getToken: async () => 'a b' })
    const connection = await socket()
    assert.equal(connection.url.searchParams.get('token'), 'a b')
    connection.accept()
    assert.equal(client.state, 'connecting')
    connection.greet()
    assert.deepEqual(states.map(({ state }) => state), ['connecting', 'open'])
  })

  it('sends the token in a message where the application wants that', async (t) => {
    makeClient(t, { getToken: () => 'secret', sendToken: 'message' })
    const connection = (await socket()).accept()
    assert.equal(connection.url.search, '')
    assert.deepEqual(connection.sent, [{ type: 'auth', data: { token: 'secret' } }])
  })

  it('gives up an attempt that is not greeted in time', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = await socket()
    tick(10_000)
    assert.equal(client.state, 'waiting')
    assert.ok(connection.closedWith)
  })

  it('counts a token that cannot be had as a failed attempt, and reports it', async (t) => {
    const errors: Error[] = []
    const { client } = makeClient(t, { getToken: () => Promise.reject(new Error('no token')) })
    client.on('error', (error) => errors.push(error))
    await settle()
    assert.equal(client.state, 'waiting')
    assert.deepEqual(errors.map(({ message }) => message), ['no token'])
    assert.equal(FakeSocket.all.length, 0)
  })

  it('ignores a token that comes after the client was closed', async (t) => {
    let give: (token: string) => void = () => {}
    const { client } = makeClient(t, { getToken: () => new Promise((resolve) => (give = resolve)) })
    client.close()
    give('late')
    await settle()
    assert.equal(FakeSocket.all.length, 0)
    assert.equal(client.state, 'closed')
  })

  it('says what is missing where there is no WebSocket', (t) => {
    replaceGlobal(t, 'WebSocket', undefined)
    assert.throws(() => new CarillonClient('wss://example.org/ws'), { name: 'TypeError', message: /package ws/ })
  })
})

describe('reconnecting', () => {
  it('waits longer after each failure, up to the cap', async (t) => {
    const { states, tick } = makeClient(t)
    for (let attempt = 0; attempt < 7; attempt++) {
      ;(await socket()).end()
      tick(30_000)
    }
    const delays = states.filter(({ state }) => state === 'waiting').map(({ delay }) => delay)
    assert.deepEqual(delays, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000])
  })

  it('spreads clients over the whole delay', async (t) => {
    const { states } = makeClient(t)
    t.mock.method(Math, 'random', () => 0.25)
    ;(await socket()).end()
    assert.equal(states.at(-1)?.delay, 250)
  })

  it('starts with the shortest delay again after a connection that lasted', async (t) => {
    const { states, tick } = makeClient(t)
    ;(await socket()).end()
    tick(1000)
    ;(await socket()).end()
    tick(2000)
    const connection = (await socket()).open()
    tick(5000)
    connection.end()
    assert.equal(states.at(-1)?.delay, 1000)
  })

  it('does not take a connection that is closed at once for a success', async (t) => {
    const { states, tick } = makeClient(t)
    ;(await socket()).open().end(4503)
    tick(1000)
    ;(await socket()).open().end(4503)
    assert.equal(states.at(-1)?.delay, 2000)
  })

  it('waits at least as long as the server asks for at its shutdown', async (t) => {
    const { states } = makeClient(t)
    const data = { message: 'Server is shutting down for maintenance', reconnectDelay: 7000 }
    ;(await socket()).open().receive({ type: 'server_shutdown', data }).end(1001)
    assert.equal(states.at(-1)?.delay, 8000)
  })

  for (const code of [4002, 4003, 4009]) {
    it(`stays closed after ${code}`, async (t) => {
      const { client, states, tick } = makeClient(t)
      ;(await socket()).open().end(code, 'why')
      tick(60_000)
      await settle()
      assert.deepEqual(states.at(-1), { state: 'closed', code, reason: 'why' })
      assert.equal(FakeSocket.all.length, 1)
      client.connect()
      assert.equal(client.state, 'connecting')
    })
  }

  for (const code of [1000, 1001, 1006, 1012, 1013, 4001, 4401]) {
    it(`connects again after ${code}`, async (t) => {
      const { tick } = makeClient(t)
      ;(await socket()).open().end(code)
      tick(1000)
      await socket()
      assert.equal(FakeSocket.all.length, 2)
    })
  }

  it('does not connect again after close()', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    client.close()
    tick(60_000)
    await settle()
    assert.deepEqual(connection.closedWith, { code: 1000, reason: 'Client disconnect' })
    assert.equal(FakeSocket.all.length, 1)
  })
})

describe('a dead connection', () => {
  it('is given up when a ping brings no message in time', async (t) => {
    const { client, states, tick } = makeClient(t)
    const connection = (await socket()).open()
    tick(25_000)
    assert.equal(connection.of('ping').length, 1)
    tick(9_999)
    assert.equal(client.state, 'open')
    tick(1)
    assert.deepEqual(connection.closedWith, { code: 4000, reason: 'Heartbeat timeout' })
    assert.equal(states.at(-1)?.code, 4000)
  })

  it('is found although pings follow each other faster than the deadline', async (t) => {
    const { client, tick } = makeClient(t, { pingInterval: 1000, pongTimeout: 3000 })
    ;(await socket()).open()
    for (let second = 0; second < 4; second++) tick(1000)
    assert.equal(client.state, 'waiting')
  })

  it('is alive as long as any message comes', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    for (let round = 0; round < 5; round++) {
      tick(25_000)
      connection.receive({ type: 'something' })
    }
    tick(24_000)
    assert.equal(client.state, 'open')
  })

  it('does nothing for the client any more', async (t) => {
    const { client, tick } = makeClient(t)
    const dead = (await socket()).open()
    tick(25_000)
    tick(10_000)
    dead.greet().end(4002)
    assert.equal(client.state, 'waiting')
  })
})

describe('a page', () => {
  function fakePage(t: TestContext) {
    const document = Object.assign(new EventTarget(), { visibilityState: 'visible' })
    const page = new EventTarget()
    replaceGlobal(t, 'document', document)
    replaceGlobal(t, 'addEventListener', page.addEventListener.bind(page))
    replaceGlobal(t, 'removeEventListener', page.removeEventListener.bind(page))
    return { document, page }
  }

  it('that comes back online connects at once', async (t) => {
    const { page } = fakePage(t)
    makeClient(t)
    ;(await socket()).end()
    page.dispatchEvent(new Event('online'))
    await socket()
    assert.equal(FakeSocket.all.length, 2)
  })

  it('that is looked at again asks whether its connection still lives', async (t) => {
    const { document } = fakePage(t)
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    document.dispatchEvent(new Event('visibilitychange'))
    assert.equal(connection.of('ping').length, 1)
    tick(5000)
    assert.equal(client.state, 'waiting')
  })

  it('that is hidden waits', async (t) => {
    const { document } = fakePage(t)
    makeClient(t)
    ;(await socket()).end()
    document.visibilityState = 'hidden'
    document.dispatchEvent(new Event('visibilitychange'))
    await settle()
    assert.equal(FakeSocket.all.length, 1)
  })
})

describe('a token that expires', () => {
  it('is renewed over the same connection', async (t) => {
    let count = 0
    makeClient(t, { getToken: () => `token-${count++}` })
    const connection = (await socket()).open()
    connection.receive({ type: 'token_expiring', data: { expiresAt: '2026-01-01T00:00:30.000Z' } })
    await settle()
    assert.deepEqual(connection.of('auth'), [{ type: 'auth', data: { token: 'token-1' } }])
  })

  it('that cannot be renewed is reported, and the connection stays until the server ends it', async (t) => {
    let count = 0
    const { client } = makeClient(t, { getToken: () => (count++ === 0 ? 'first' : Promise.reject(new Error('no session'))) })
    const errors: string[] = []
    client.on('error', ({ message }) => errors.push(message))
    ;(await socket()).open().receive({ type: 'token_expiring', data: { expiresAt: '2026-01-01T00:00:30.000Z' } })
    await settle()
    assert.deepEqual(errors, ['no session'])
    assert.equal(client.state, 'open')
  })
})

describe('requests', () => {
  it('resolve with the reply of their own messageId', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    const [first, second] = [client.request('vote', { option: 1 }), client.request('vote', { option: 2 })]
    const [a, b] = connection.of('vote')
    connection.receive({ type: 'reply', messageId: b!.messageId!, data: 'b' })
    connection.receive({ type: 'reply', messageId: a!.messageId!, data: 'a' })
    assert.deepEqual(await Promise.all([first, second]), ['a', 'b'])
  })

  it('reject with the code of the error', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    const request = client.request('vote')
    connection.receive({ type: 'error', message: 'Message failed', code: 'failed', messageId: connection.of('vote')[0]!.messageId! })
    await assert.rejects(request, (error: CarillonError) => error instanceof CarillonError && error.code === 'failed')
  })

  it('that are made while offline are sent in order once there is a connection', async (t) => {
    const { client } = makeClient(t)
    const requests = [client.request('one'), client.request('two')]
    const connection = (await socket()).open()
    assert.deepEqual(connection.sent.map(({ type }) => type), ['one', 'two'])
    for (const { messageId } of connection.sent) connection.receive({ type: 'reply', messageId: messageId!, data: null })
    await Promise.all(requests)
  })

  it('beyond the bound of those that wait are refused', async (t) => {
    const { client } = makeClient(t, { maxQueued: 2 })
    const waiting = [client.request('a'), client.request('b')]
    await assert.rejects(client.request('c'), { code: 'queue_full' })
    client.close()
    for (const request of waiting) await assert.rejects(request, { code: 'closed' })
  })

  it('fail when no answer comes in time, and make room for others', async (t) => {
    const { client, tick } = makeClient(t, { maxQueued: 1 })
    const late = client.request('a', undefined, { timeout: 500 })
    tick(500)
    await assert.rejects(late, { code: 'timeout' })
    const next = client.request('b')
    client.close()
    await assert.rejects(next, { code: 'closed' })
  })

  it('whose answer is lost with the connection fail: they may have been carried out', async (t) => {
    const { client } = makeClient(t)
    const connection = (await socket()).open()
    const sent = client.request('vote')
    connection.end()
    await assert.rejects(sent, { code: 'disconnected' })
  })

  it('to a closed client are refused', async (t) => {
    const { client } = makeClient(t)
    client.close()
    await assert.rejects(client.request('vote'), { code: 'closed' })
  })

  it('are not answered by the acknowledgement that comes before the reply', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    const request = client.request('vote')
    const { messageId } = connection.of('vote')[0]!
    connection.receive({ type: 'ack', messageId })
    tick(1)
    connection.receive({ type: 'reply', messageId: messageId!, data: 7 })
    assert.equal(await request, 7)
  })

  it('to publish resolve with the acknowledgement', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    const published = client.publish('chat:1', { text: 'hello' })
    const [request] = connection.of('publish')
    assert.deepEqual(request!.data, { channel: 'chat:1', data: { text: 'hello' } })
    connection.receive({ type: 'ack', messageId: request!.messageId })
    tick(0)
    assert.equal(await published, undefined)
  })

  it('to publish fail where the service acknowledges what it does not know', async (t) => {
    const { client, tick } = makeClient(t)
    const connection = (await socket()).open()
    const published = client.publish('chat:1', 1)
    const { messageId } = connection.of('publish')[0]!
    const error = { type: 'error', message: 'Unknown message type: publish', messageId }
    connection.receive({ type: 'batch', messages: [{ type: 'ack', messageId }, error] })
    tick(0)
    await assert.rejects(published, { code: 'rejected' })
  })
})

describe('listeners', () => {
  it('that throw do not keep others from being called, and surface as uncaught exceptions', async (t) => {
    const { client } = makeClient(t)
    const heard: string[] = []
    const uncaught = new Promise<Error>((resolve) => {
      const listeners = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      process.once('uncaughtException', (error) => {
        for (const listener of listeners) process.on('uncaughtException', listener)
        resolve(error)
      })
    })
    client.on('notification', () => {
      throw new Error('of a listener')
    })
    client.on('notification', ({ title }) => heard.push(title))
    const notification = { type: 'n', title: 'hello', message: '' }
    ;(await socket()).open().receive({ type: 'notification', notification, timestamp: '', priority: 'immediate' })
    assert.deepEqual(heard, ['hello'])
    assert.equal((await uncaught).message, 'of a listener')
  })

  it('are removed by what on() returned', async (t) => {
    const { client } = makeClient(t)
    let calls = 0
    const remove = client.on('message', () => calls++)
    const connection = (await socket()).open()
    remove()
    connection.receive({ type: 'announcement' })
    assert.equal(calls, 1)
  })

  it('learn of what a server sends that is no JSON', async (t) => {
    const { client } = makeClient(t)
    const errors: Error[] = []
    client.on('error', (error) => errors.push(error))
    ;(await socket()).open().onmessage?.({ data: '{' } as never)
    assert.ok(errors[0] instanceof SyntaxError)
    assert.equal(client.state, 'open')
  })
})
