// A port of the service's own: what it serves, what it refuses, and how it ends.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { get } from 'node:https'
import { createServer as createNetServer, type AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { WebSocketService, type ListenOptions, type WebSocketServiceOptions } from 'carillon'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { RawPeer, upgradeRequest } from './support/raw.mjs'
import { application, closeServer, listen, options, withToken, type Scope } from './support/server.mjs'
import { CERTIFICATE, TRUSTING } from './support/tls.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const local = { port: 0, host: '127.0.0.1' }

function make(test: Scope, given?: WebSocketServiceOptions): WebSocketService {
  const service = new WebSocketService(options(given))
  test.after(() => service.shutdown())
  return service
}

async function open(test: Scope, given?: WebSocketServiceOptions, where: ListenOptions = local): Promise<{ service: WebSocketService; port: number }> {
  const service = make(test, given)
  return { service, port: (await service.listen(where)).port }
}

const url = (port: number, user: string, scheme = 'ws'): string => `${scheme}://127.0.0.1:${port}/ws?token=${tokenOf(user)}`

async function works(service: WebSocketService, client: Client): Promise<void> {
  await client.subscribe(5)
  service.broadcastBillUpdate(5, { type: 'amendment', data: { works: Math.random() }, timestamp: new Date() })
  await client.take('bill_update')
}

describe('an own port', () => {
  it('serves clients and says where', async (test) => {
    const service = make(test, { threads: 2 })
    const address = await service.listen(local)
    assert.equal(address.host, '127.0.0.1')
    assert.ok(address.port > 0)
    assert.equal(service.state, 'running')
    const places: string[] = []
    service.on('connection', ({ remoteAddress }) => places.push(remoteAddress))
    for (const user of ['ann', 'bob', 'cid']) await works(service, await Client.open(url(address.port, user)))
    assert.deepEqual(service.getAllConnectedUsers(), ['ann', 'bob', 'cid'])
    assert.deepEqual(places, ['127.0.0.1', '127.0.0.1', '127.0.0.1'])
  })

  it('is on every address unless told otherwise', async (test) => {
    const { service, port } = await open(test, {}, { port: 0 })
    await works(service, await Client.open(url(port, 'ann')))
  })

  it('answers load balancers and lost browsers', async (test) => {
    const { port } = await open(test)
    const base = `http://127.0.0.1:${port}`
    const health = await fetch(`${base}/health`)
    assert.deepEqual([health.status, await health.json()], [200, { status: 'healthy' }])
    // `fetch` hides a 426.
    const peer = await RawPeer.connect(port)
    await peer.write('GET /ws HTTP/1.1\r\nHost: a\r\n\r\n')
    const { status, headers } = await peer.response()
    assert.deepEqual([status, headers['upgrade']], [426, 'websocket'])
    assert.equal((await fetch(`${base}/`)).status, 404)
    const posted = await fetch(`${base}/health`, { method: 'POST', body: 'x' })
    assert.deepEqual([posted.status, posted.headers.get('allow')], [405, 'GET, HEAD'])
  })

  it('refuses as an attached service does', async (test) => {
    const { port } = await open(test)
    const peer = await RawPeer.connect(port)
    await peer.write(upgradeRequest(withToken('wrong')))
    assert.equal((await peer.response()).status, 401)
    await peer.ended
  })

  it('speaks TLS', async (test) => {
    const { service, port } = await open(test, { maxBackpressure: 64 * 1024 * 1024 }, { ...local, tls: CERTIFICATE })
    const client = await Client.open(url(port, 'ann', 'wss'), [], TRUSTING)
    await works(service, client)
    client.socket.pause()
    const content = 'x'.repeat(8 * 1024 * 1024)
    service.broadcastToAll({ type: 'large', data: { content } })
    client.socket.resume()
    assert.equal((await client.take('large'))['data'].content.length, content.length)
    client.send('unsubscribe', { filler: 'z'.repeat(100_000) }, { messageId: 'large' })
    await client.take('ack')
    const status = await new Promise((resolve, reject) => {
      get(`https://127.0.0.1:${port}/health`, TRUSTING, (response) => resolve(response.resume().statusCode)).on('error', reject)
    })
    assert.equal(status, 200)
    assert.deepEqual(await client.close(1000, 'enough'), { code: 1000, reason: 'enough' })
  })

  it('takes PEM as text too', async (test) => {
    const tls = { cert: String(CERTIFICATE.cert), key: String(CERTIFICATE.key) }
    const { service, port } = await open(test, {}, { ...local, tls })
    await works(service, await Client.open(url(port, 'ann', 'wss'), [], TRUSTING))
  })

  it('stands beside an attached server, whichever came first', async (test) => {
    for (const order of ['server first', 'port first']) {
      const service = make(test)
      const http = createServer(application)
      test.after(() => closeServer(http))
      if (order === 'server first') service.initialize(http)
      const { port } = await service.listen(local)
      if (order === 'port first') service.initialize(http)
      const clients = [await Client.open(url(port, 'ann')), await Client.open(url(await listen(http), 'bob'))]
      for (const client of clients) await works(service, client)
      await service.shutdown()
      for (const client of clients) assert.equal((await client.whenClosed()).code, 1001)
      assert.equal(http.listenerCount('upgrade'), 0)
    }
  })

  it('is closed by shutdown(), at once, and can be opened again', async (test) => {
    const { service, port } = await open(test)
    const client = await Client.open(url(port, 'ann'))
    const ended = service.shutdown()
    await assert.rejects(RawPeer.connect(port), 'the port is closed')
    assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
    await ended
    assert.deepEqual(await service.listen({ ...local, port }), { ...local, port })
    await works(service, await Client.open(url(port, 'ann')))
  })
})

describe('listen()', () => {
  const rejects = (service: WebSocketService, given: unknown, code: string, message: RegExp): Promise<void> =>
    assert.rejects(service.listen(given as ListenOptions), { code, message })

  it('names the argument that is wrong', async (test) => {
    const service = make(test)
    for (const [given, name] of [
      [undefined, 'options'],
      [{}, 'port'],
      [{ port: '80' }, 'port'],
      [{ port: 65_536 }, 'port'],
      [{ port: 1.5 }, 'port'],
      [{ port: 0, host: 7 }, 'host'],
      [{ port: 0, host: '' }, 'host'],
      [{ port: 0, hots: 'a' }, 'hots'],
      [{ port: 0, tls: true }, 'tls'],
      [{ port: 0, tls: { key: CERTIFICATE.key } }, 'tls.cert'],
      [{ port: 0, tls: { cert: CERTIFICATE.cert } }, 'tls.key'],
      [{ port: 0, tls: { cert: 'no PEM', key: CERTIFICATE.key } }, 'tls.cert'],
      [{ port: 0, tls: { cert: CERTIFICATE.cert, key: 'no PEM' } }, 'tls.key'],
    ] as const) {
      await assert.rejects(service.listen(given as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: new RegExp(name.replace('.', '\\.')) })
    }
    assert.equal(service.state, 'stopped')
  })

  it('says what the system says', async (test) => {
    const occupied = createNetServer().listen(0, '127.0.0.1')
    await once(occupied, 'listening')
    test.after(() => occupied.close())
    const { port } = occupied.address() as AddressInfo
    const service = make(test)
    await rejects(service, { ...local, port }, 'EADDRINUSE', new RegExp(`address already in use 127\\.0\\.0\\.1:${port}`))
    await rejects(service, { port: 0, host: '192.0.2.1' }, 'EADDRNOTAVAIL', /192\.0\.2\.1/)
    assert.equal(service.state, 'stopped')
    // An attached service continues as if nothing had been asked.
    const http = createServer(application)
    test.after(() => closeServer(http))
    service.initialize(http)
    await rejects(service, { ...local, port }, 'EADDRINUSE', /in use/)
    await works(service, await Client.open(url(await listen(http), 'ann')))
  })

  it('opens one port at a time', async (test) => {
    const service = make(test)
    const first = service.listen(local)
    await rejects(service, local, 'ERR_ALREADY_RUNNING', /port/)
    await first
    await rejects(service, local, 'ERR_ALREADY_RUNNING', /port/)
  })

  it('is given up by a shutdown that comes first', async (test) => {
    const service = make(test)
    const opening = service.listen(local)
    const refused = assert.rejects(opening, { code: 'ERR_LISTEN_FAILED', message: /shut down/ })
    await service.shutdown()
    await refused
    assert.equal(service.state, 'stopped')
    await service.listen(local)
    assert.equal(service.state, 'running')
  })

  it('needs a key for tokens', async (test) => {
    const child = new Child(test, 'listening', ['no key'], [], { JWT_SECRET: '' })
    assert.equal((await child.hear('rejected'))['code'], 'ERR_NO_JWT_SECRET')
    assert.equal((await child.exit()).code, 0)
  })
})

describe('a process with an own port', () => {
  it('that has no descriptor left says so once in a while, and recovers', { skip: process.platform === 'win32' }, async (test) => {
    const limited = ['-c', `ulimit -n 96 && exec '${process.execPath}' "$0" "$@"`]
    const child = new Child(test, 'scarce', [], limited, {}, '/bin/sh')
    const port = (await child.hear('listening'))['port'] as number
    // More than there are descriptors; the system completes their handshakes all the same.
    const crowd = await Promise.all(Array.from({ length: 120 }, () => RawPeer.connect(port)))
    await child.hear('shortage')
    for (const peer of crowd) peer.socket.destroy()
    const client = await Client.open(url(port, 'ann'))
    await client.probe()
    child.tell('count')
    assert.equal((await child.hear('shortages'))['count'], 1)
  })

  it('lives until shutdown()', async (test) => {
    const child = new Child(test, 'listening')
    const { port } = await child.hear('listening')
    const client = await Client.open(url(port as number, 'ann'))
    client.send('subscribe', { bill_id: 99 })
    const { code, stderr } = await child.exit()
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    assert.equal((await client.whenClosed()).code, 1001)
  })

  it('continues to serve when the service object is not referenced', async (test) => {
    const child = new Child(test, 'listening', ['forgotten'], ['--expose-gc'])
    const { port } = await child.hear('listening')
    await (await Client.open(url(port as number, 'ann'))).probe()
  })

  it('ends at once when it is asked to', async (test) => {
    const child = new Child(test, 'listening', ['exit'])
    const { port } = await child.hear('listening')
    const client = await Client.open(url(port as number, 'ann'))
    child.tell('exit')
    assert.equal((await child.exit()).code, 7)
    await within(client.closed, 'the end of the connection')
  })
})
