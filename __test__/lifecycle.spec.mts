// How a service ends, and what it does meanwhile: shutdown, cleanup, heartbeats.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { WebSocketService, type BillUpdate, type WebSocketServiceOptions } from 'carillon'
import { Client } from './support/client.mjs'
import { Opcode, RawPeer, closeFrame, text } from './support/raw.mjs'
import { TRANSPORT, TestServer, options, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { Mailbox, SLOWNESS, within } from './support/waiting.mjs'

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const update = (index: number): BillUpdate => ({ type: 'new_comment', data: { index }, timestamp: new Date() })
const indexes = (client: Client): number[] => client.received('bill_update').map((message) => message['update'].data.index as number)
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await action()
  return performance.now() - start
}

describe('shutdown', () => {
  it('flushes, says so, closes with 1001 and settles', async (test) => {
    const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_DELAY: 60_000 }, base: { RECONNECT_DELAY: 1234 } })
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 1 })
    client.send('ping')
    await client.take('pong')
    site.service.broadcastBillUpdate(1, update(0))
    await site.service.shutdown()
    assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
    assert.deepEqual(client.messages.map(({ type }) => type), ['connected', 'pong', 'subscribed', 'bill_update', 'server_shutdown'])
    const { timestamp, ...farewell } = client.messages.at(-1) ?? { type: 'none' }
    assert.match(timestamp, ISO)
    assert.deepEqual(farewell, {
      type: 'server_shutdown',
      data: { message: 'Server is shutting down for maintenance', reconnectDelay: 1234 },
      priority: 'immediate',
    })
    assert.equal(client.frames.at(-1), JSON.stringify({ type: farewell.type, data: farewell['data'], timestamp, priority: 'immediate' }))
  })

  it('reports its states', async (test) => {
    const site = await TestServer.open(test)
    const states: string[] = []
    site.service.on('stateChange', ({ state }) => states.push(state))
    await site.connect('ann')
    assert.equal(site.service.state, 'running')
    const stopped = site.event('stateChange')
    const ending = site.service.shutdown()
    assert.equal(site.service.state, 'stopping')
    await ending
    assert.equal(site.service.state, 'stopped')
    await stopped
    site.service.initialize(site.http)
    assert.equal(site.service.state, 'running')
    await site.service.shutdown()
    const again = site.event('stateChange')
    site.service.initialize(site.http)
    await again
    assert.deepEqual(states, ['stopping', 'stopped', 'running', 'stopping', 'stopped', 'running'])
  })

  it('gives every caller the same promise', async (test) => {
    const site = await TestServer.open(test)
    await site.connect('ann')
    const first = site.service.shutdown()
    assert.equal(site.service.shutdown(), first)
    assert.equal(await first, undefined)
    assert.equal(await site.service.shutdown(), undefined)
    site.service.initialize(site.http)
    assert.notEqual(site.service.shutdown(), first)
  })

  it('resolves at once when there is nothing to end', async () => {
    const service = new WebSocketService(options())
    assert.ok((await timed(() => service.shutdown())) < 500)
    assert.ok((await timed(() => service.shutdown())) < 500)
  })

  it('settles as soon as the last peer has closed', async (test) => {
    const site = await TestServer.open(test)
    const clients = await Promise.all(upTo(50).map((index) => site.connect(`user ${index}`)))
    assert.ok((await timed(() => site.service.shutdown())) < 1000 * SLOWNESS)
    for (const client of clients) assert.equal((await client.whenClosed()).code, 1001)
  })

  for (const [name, silence] of [['does not answer', false], ['does not even read', true]] as const) {
    it(`cuts a peer that ${name} after the grace period`, async (test) => {
      const site = await TestServer.open(test, { base: { SHUTDOWN_GRACE_PERIOD: 300 }, maxBackpressure: 64 * 1024 * 1024 })
      const polite = await site.connect('bob')
      const hung = await site.rawConnection('ann')
      if (silence) {
        hung.socket.pause()
        for (const _ of upTo(20)) site.service.sendUserNotification('ann', { type: 't', title: 'x'.repeat(500_000), message: '' })
      }
      let duration = 0
      const ending = timed(() => site.service.shutdown()).then((time) => (duration = time))
      assert.equal((await polite.whenClosed()).code, 1001)
      assert.equal(duration, 0, 'the polite one has gone before the end')
      await within(ending, 'the end of shutdown()')
      assert.ok(duration >= 290 && duration < 3000, `${duration} ms`)
      hung.socket.resume()
      await within(hung.ended, 'the end of the hung connection')
      assert.equal(site.service.getStats().activeConnections, 0)
    })
  }

  it('answers late upgrade requests with 503, and leaves those that come after it to the application', async (test) => {
    const site = await TestServer.open(test, { base: { SHUTDOWN_GRACE_PERIOD: 2000 } })
    const hung = await site.rawConnection('ann')
    const ending = site.service.shutdown()
    const { peer, response } = await site.requestUpgrade(withToken(tokenOf('bob')))
    assert.equal(response.statusLine, 'HTTP/1.1 503 Service Unavailable')
    assert.equal(response.headers['connection'], 'close')
    await peer.rest()
    assert.equal((await hung.close()).code, 1001)
    await hung.write(closeFrame(1001))
    await within(ending, 'the end of shutdown()')
    assert.equal(site.http.listening, true)
    assert.equal(site.http.listenerCount('upgrade'), 0)
    const late = await site.requestUpgrade(withToken(tokenOf('bob')))
    assert.equal(late.response.status, 200, 'without a listener Node takes it for a plain request')
  })

  it('does not wait for a look-up', async (test) => {
    let called = (): void => {}
    const wasCalled = new Promise<void>((resolve) => (called = resolve))
    const site = await TestServer.open(test, {
      lookupTimeout: 60_000,
      lookupUser: () => {
        called()
        return new Promise(() => {})
      },
    })
    const answer = site.status(tokenOf('ann'))
    await within(wasCalled, 'a look-up')
    assert.ok((await timed(() => site.service.shutdown())) < 1000)
    assert.equal(await answer, 503)
  })

  it('sends everything published before it, in order', async (test) => {
    const count = 1000
    const site = await TestServer.open(test, { threads: 3 })
    const clients = await Promise.all(upTo(6).map((index) => site.follower(`user ${index}`, 1)))
    upTo(count).forEach((index) => site.service.broadcastBillUpdate(1, update(index)))
    site.service.broadcastToAll({ type: 'announcement', data: {} })
    const ending = site.service.shutdown()
    site.service.broadcastBillUpdate(1, update(count))
    site.service.broadcastToAll({ type: 'too late', data: {} })
    for (const client of clients) {
      assert.equal((await client.whenClosed()).code, 1001)
      assert.deepEqual(indexes(client), upTo(count))
      assert.equal(client.received('announcement').length, 1)
      assert.equal(client.received('too late').length, 0)
      assert.equal(client.messages.at(-1)?.type, 'server_shutdown')
    }
    await ending
  })

  it('ignores what peers say meanwhile', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.rawConnection('ann')
    const ending = site.service.shutdown()
    assert.deepEqual(await peer.close(), { code: 1001, reason: 'Server shutdown' })
    await peer.write(Buffer.concat([text({ type: 'ping' }), text({ type: 'subscribe', data: { bill_id: 1 } }), closeFrame(1001)]))
    assert.equal(await peer.rest(), '')
    await within(ending, 'the end of shutdown()')
    assert.equal(site.service.getStats().totalMessages, 0)
  })

  it('meets clients that are just coming', async (test) => {
    const site = await TestServer.open(test, { threads: 2 })
    const url = site.url(tokenOf('ann'))
    const outcomes = upTo(60).map(async (index) => {
      const client = new Client(site.url(tokenOf(`user ${index}`)))
      const refused = once(client.socket, 'unexpected-response').then(([, response]) => (response as { statusCode: number }).statusCode)
      const opened = once(client.socket, 'open').then(() => 101)
      const status = await Promise.race([opened, refused].map((outcome) => outcome.catch(() => 0)))
      if (status !== 101) client.socket.terminate()
      return { status, code: (await client.whenClosed()).code }
    })
    await Client.open(url)
    await within(site.service.shutdown(), 'the end of shutdown()')
    for (const { status, code } of await Promise.all(outcomes)) {
      if (status === 101) assert.equal(code, 1001)
      else assert.ok([503, 200].includes(status), `${status}`)
    }
    assert.deepEqual(site.service.getAllConnectedUsers(), [])
    assert.equal(site.service.getStats().activeConnections, 0)
  })

  it('may be called by a listener', async (test) => {
    const site = await TestServer.open(test)
    let ending: Promise<void> | undefined
    site.service.on('connection', () => (ending ??= site.service.shutdown()))
    const client = await site.connect('ann')
    assert.equal((await client.whenClosed()).code, 1001)
    await ending
    assert.equal(site.service.state, 'stopped')
  })

  it('never rejects because of a peer', async (test) => {
    const site = await TestServer.open(test)
    const peers = await Promise.all(upTo(20).map((index) => site.rawConnection(`user ${index}`)))
    const ending = site.service.shutdown()
    peers.forEach((peer) => peer.reset())
    await within(ending, 'the end of shutdown()')
  })
})

describe('cleanup', () => {
  it('keeps connections and subscriptions, and loses nothing that is published after it', async (test) => {
    const site = await TestServer.open(test, { threads: 2 })
    const clients = [await site.follower('ann', 1), await site.follower('bob', 1)]
    for (const index of upTo(50)) {
      site.service.cleanup()
      site.service.broadcastBillUpdate(1, update(index))
      for (const client of clients) assert.equal((await client.take('bill_update'))['update'].data.index, index)
    }
    assert.equal(site.service.getStats().totalSubscriptions, 2)
    assert.equal(site.service.getStats().activeConnections, 2)
    await clients[0]?.subscribe(2)
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [1, 2])
  })

  it('empties what is buffered', async (test) => {
    const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_DELAY: 60_000 } })
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 1 })
    client.send('ping')
    await client.take('pong')
    site.service.broadcastBillUpdate(1, update(0))
    site.service.cleanup()
    upTo(10).forEach((index) => site.service.broadcastBillUpdate(1, update(1 + index)))
    await client.take('bill_update')
    assert.deepEqual(indexes(client), upTo(10).map((index) => 1 + index))
  })

  it('does not stand in the way of shutdown', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    site.service.cleanup()
    site.service.cleanup()
    await within(site.service.shutdown(), 'the end of shutdown()')
    assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
  })
})

describe('the heartbeat', () => {
  const FAST: WebSocketServiceOptions = { base: { HEARTBEAT_INTERVAL: 100, STALE_CONNECTION_THRESHOLD: 200 } }
  /** For those who answer: a busy machine may take its time for it. */
  const CALM: WebSocketServiceOptions = { base: { HEARTBEAT_INTERVAL: 400, STALE_CONNECTION_THRESHOLD: 1200 } }

  /** Everything until the end of the stream. */
  async function opcodes(peer: RawPeer, onFrame: (opcode: number) => void = () => {}): Promise<number[]> {
    const seen: number[] = []
    for (;;) {
      try {
        seen.push((await peer.frame()).opcode)
      } catch {
        return seen
      }
      onFrame(seen.at(-1) ?? -1)
    }
  }

  it('pings, and keeps the connections that answer', async (test) => {
    const site = await TestServer.open(test, CALM)
    const client = await site.connect('ann')
    assert.equal((await client.take('connected'))['data'].config.heartbeatInterval, 400)
    for (const _ of upTo(4)) {
      const [payload] = (await within(once(client.socket, 'ping'), 'a ping')) as [Buffer]
      assert.equal(payload.length, 0)
    }
    await client.probe()
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('ends those that do not, without a close frame', async (test) => {
    const site = await TestServer.open(test, FAST)
    const gone = site.event('disconnection')
    const peer = await site.rawConnection('ann')
    assert.deepEqual(await opcodes(peer), [Opcode.text, Opcode.ping])
    assert.deepEqual((await gone).code, 1006)
    assert.equal(site.service.isUserConnected('ann'), false)
  })

  it('does not take messages for life', async (test) => {
    const site = await TestServer.open(test, FAST)
    const peer = await site.rawConnection('ann')
    const seen = await opcodes(peer, (opcode) => {
      if (opcode === Opcode.ping) void peer.write(text({ type: 'ping' }))
    })
    assert.equal(seen.includes(Opcode.close), false)
    assert.equal(seen.filter((opcode) => opcode === Opcode.ping).length, 1)
  })

  it('takes unsolicited pongs for no harm', async (test) => {
    const site = await TestServer.open(test, CALM)
    const client = await site.connect('ann')
    for (const _ of upTo(3)) {
      client.socket.pong('unasked')
      await within(once(client.socket, 'ping'), 'a ping')
    }
    await client.probe()
  })

  // The JavaScript thread writes the sockets of bridges.
  it('is not disturbed when the JavaScript thread stands still', { skip: TRANSPORT === 'bridge' }, async (test) => {
    const site = await TestServer.open(test, CALM)
    const worker = new Worker(new URL('programs/peer.mjs', import.meta.url), { workerData: { url: site.url(tokenOf('ann')) } })
    test.after(() => worker.terminate())
    const told = new Mailbox<{ type: string; pings?: number }>()
    worker.on('message', (message) => told.put(message))
    const hear = (type: string): Promise<{ type: string; pings?: number }> => told.take((message) => message.type === type, type)
    await hear('open')
    await hear('ping')
    // A long pause of this thread: a collection, a breakpoint, a heavy computation.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500)
    worker.postMessage('probe')
    const { pings = 0 } = await hear('probed')
    assert.ok(pings >= 5, `pinged ${pings} times meanwhile`)
    assert.equal(site.service.getConnectionCount('ann'), 1)
    const exited = once(worker, 'exit')
    worker.postMessage('end')
    await within(exited, 'the end of the worker')
  })
})
