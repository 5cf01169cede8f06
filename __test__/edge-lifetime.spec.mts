// When a service is attached and when it is not, and what the end of the server does to it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { WebSocketService } from 'carillon'
import { Client } from './support/client.mjs'
import { EdgeTable } from './support/edge-table.mjs'
import { EdgeSite, KINDS, ours, socketsOf, type Kind } from './support/edge.mjs'
import { Opcode, text, upgradeRequest, type RawPeer } from './support/raw.mjs'
import { application, closeServer, listen, options, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { eventually, within } from './support/waiting.mjs'

const url = (port: number, user: string): string => `ws://127.0.0.1:${port}/ws?token=${tokenOf(user)}`

async function works(peer: RawPeer): Promise<void> {
  void peer.write(text({ type: 'ping' }))
  while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
}

describe('the end of a run', () => {
  async function open(test: Scope): Promise<{ service: WebSocketService; first: Server; second: Server }> {
    const service = new WebSocketService(options())
    const [first, second] = [createServer(application), createServer(application)]
    test.after(async () => {
      await service.shutdown()
      await closeServer(first)
      await closeServer(second)
    })
    service.initialize(first)
    await listen(first)
    await listen(second)
    return { service, first, second }
  }

  const portOf = (http: Server): number => (http.address() as { port: number }).port

  for (const name of ['another server', 'the same server'] as const) {
    it(`is told when the server is free: ${name} is attached from the event`, async (test) => {
      const { service, first, second } = await open(test)
      const [next, left] = name === 'another server' ? [second, first] : [first, second]
      let listeners: number | undefined
      const restarted = new Promise<void>((resolve, reject) => {
        service.on('stateChange', ({ state }) => {
          if (state !== 'stopped' || listeners !== undefined) return
          listeners = first.listenerCount('upgrade')
          try {
            service.initialize(next)
            resolve()
          } catch (error) {
            reject(error as Error)
          }
        })
      })
      await service.shutdown()
      await within(restarted, 'the next run')
      assert.equal(listeners, 0, 'detached before it was told')
      // The promise of the run that has ended has settled by now; it must not have detached the new one.
      await turn()
      assert.deepEqual([next.listenerCount('upgrade'), left.listenerCount('upgrade')], [1, 0])
      const client = await Client.open(url(portOf(next), 'ann'))
      await client.probe()
      assert.deepEqual(service.getAllConnectedUsers(), ['ann'])
      await client.close(1000)
    })
  }

  it('leaves the server when an own port begins the next run', async (test) => {
    const { service, first } = await open(test)
    await service.shutdown()
    await service.listen({ port: 0, host: '127.0.0.1' })
    assert.equal(first.listenerCount('upgrade'), 0)
  })

  it('has to come before initialize()', async (test) => {
    const { service, first, second } = await open(test)
    const client = await Client.open(url(portOf(first), 'ann'))
    const ended = service.shutdown()
    assert.equal(service.state, 'stopping')
    for (const http of [first, second]) assert.throws(() => service.initialize(http), { name: 'Error', code: 'ERR_ALREADY_RUNNING', message: /stopping/ })
    await ended
    await client.whenClosed()
    assert.equal(second.listenerCount('upgrade'), 0)
    service.initialize(second)
    assert.equal(service.state, 'running')
  })
})

const isTaken = (kind: Kind): boolean => process.platform !== 'win32' && process.env['CARILLON_TEST_TRANSPORT'] !== 'bridge' && (kind === 'plain' || kind === 'unix')
const table = new EdgeTable('The end of the server')

for (const kind of KINDS) {
  describe(`the end of a server (${kind})`, () => {
    const cell = (call: string): string => table.cell(call, isTaken(kind) ? 'sockets taken over' : 'bridged sockets')
    it(cell('closeAllConnections(), closeIdleConnections()'), async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.connection('ann')
      // A server of http2 has none of these.
      site.http.closeIdleConnections?.()
      site.http.closeAllConnections?.()
      await works(peer)
      assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
    })

    it(cell('service.shutdown()'), async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.connection('ann')
      const ended = site.service.shutdown()
      assert.equal((await peer.close()).code, 1001)
      peer.destroy()
      await within(ended, 'the end of the service')
      assert.equal(site.http.listening, true)
      assert.equal(await site.get(), 'the application')
    })

    it(cell('close() after shutdown()'), async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.connection('ann')
      const ended = site.service.shutdown()
      assert.equal((await peer.close()).code, 1001)
      peer.destroy()
      await within(ended, 'the end of the service')
      const closed = once(site.http, 'close')
      site.http.close()
      await within(closed, 'the end of the server')
    })

    it(cell("removeAllListeners('upgrade')"), async (test) => {
      const site = await EdgeSite.open(test, kind, { before: (http) => void http.on('upgrade', (_request, socket) => socket.destroy()) })
      site.http.on('upgrade', (_request, socket) => socket.destroy())
      site.http.removeAllListeners('upgrade')
      assert.equal(site.http.listenerCount('upgrade'), 1, 'ours')
      await works(await site.connection('ann'))
      assert.equal((await site.requestUpgrade({ target: '/neither' })).response.status, 400)
      await site.service.shutdown()
      assert.deepEqual([site.http.listenerCount('upgrade'), site.http.listenerCount('removeListener')], [0, 0])
    })

    it(cell('close() with open connections'), async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.connection('ann')
      let isClosed = false
      site.http.close(() => (isClosed = true))
      if (isTaken(kind)) await eventually(() => isClosed, 'the end of the server')
      await works(peer)
      assert.equal(isClosed, isTaken(kind), 'a bridged connection counts as the server\'s')
      peer.destroy()
      await eventually(() => isClosed, 'the end of the server')
    })

    it(cell('close() while a user is looked up'), async (test) => {
      let answer: ((found: boolean) => void) | undefined
      const site = await EdgeSite.open(test, kind, { service: { lookupUser: () => new Promise((resolve) => (answer = resolve)) } })
      const peer = await site.send(upgradeRequest(ours('ann')))
      await eventually(() => answer !== undefined, 'the look-up')
      site.http.close()
      site.http.closeIdleConnections?.()
      site.http.closeAllConnections?.()
      answer?.(true)
      assert.equal((await peer.response()).status, 101)
      await works(peer)
    })

    it(cell('close() while an earlier response is under way'), async (test) => {
      let finish: (() => void) | undefined
      const site = await EdgeSite.open(test, kind, { handler: (_request, response) => void (finish = () => response.end('late')) })
      const peer = await site.send(`GET / HTTP/1.1\r\nHost: localhost\r\n\r\n${upgradeRequest(ours('ann'))}`)
      await eventually(() => finish !== undefined, 'the first request')
      site.http.close()
      finish?.()
      const { headers } = await peer.response()
      assert.equal((await peer.bytes(Number(headers['content-length']))).toString(), 'late')
      // Node may end a connection with the response when its server closes; nothing else may come.
      if (headers['connection'] === 'close') return void (await within(peer.ended, 'the end of the connection'))
      assert.equal((await peer.response()).status, 101)
    })

    it(cell('close() after a refusal'), async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.send(upgradeRequest({ target: '/ws' }))
      assert.equal((await peer.response()).status, 401)
      await within(peer.ended, 'the end of the refusal')
      const closed = once(site.http, 'close')
      site.http.close()
      peer.destroy()
      await within(closed, 'the end of the server')
    })

    it('counts only what Node still has', async (test) => {
      const site = await EdgeSite.open(test, kind)
      const count = (): Promise<number> => promisify(site.http.getConnections.bind(site.http))()
      const peers = [await site.connection('ann'), await site.connection('bob')]
      await Promise.all(peers.map(works))
      assert.equal(await count(), isTaken(kind) ? 0 : 2)
    })
  })
}

describe('server.maxConnections', () => {
  const isBridged = process.env['CARILLON_TEST_TRANSPORT'] === 'bridge' || process.platform === 'win32'
  it('counts a connection until it is taken over, and never after', { skip: isBridged && 'sockets stay with Node' }, async (test) => {
    const site = await EdgeSite.open(test, 'plain', { after: (http) => (http.maxConnections = 1) })
    for (const user of ['ann', 'bob', 'cid']) await works(await site.connection(user))
    assert.equal(site.service.getStats().activeConnections, 3)
  })

  it('counts bridged connections as long as they live', async (test) => {
    const site = await EdgeSite.open(test, 'bridge', { after: (http) => (http.maxConnections = 1) })
    const found = socketsOf('bridge', site.http)
    await works(await site.connection('ann'))
    const dropped = once(site.http, 'drop')
    const peer = await site.raw()
    await within(dropped, 'a connection that is dropped')
    await within(peer.ended, 'its end')
    assert.equal(found.length, 1)
  })
})

table.complete()
