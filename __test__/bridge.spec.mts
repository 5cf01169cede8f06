// Connections that stay with Node: behind TLS, or because the application wants it so.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { connect as connectTls } from 'node:tls'
import { describe, it } from 'node:test'
import type { Socket } from 'node:net'
import { WebSocketService } from 'carillon'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { Log } from './support/log.mjs'
import { Opcode, closeFrame, text, upgradeRequest } from './support/raw.mjs'
import { TestServer, application, closeServer, listen, options, withToken, type Scope } from './support/server.mjs'
import { CERTIFICATE, TRUSTING } from './support/tls.mjs'
import { tokenOf } from './support/token.mjs'
import { eventually, within } from './support/waiting.mjs'

const LARGE = 3 * 1024 * 1024
const bridged = { transport: 'bridge' } as const
/** For clients that are meant to lag. */
const patient = { maxBackpressure: 64 * 1024 * 1024 }

interface Secure {
  site: TestServer
  open(user: string): Promise<Client>
}

async function secure(test: Scope, given = {}, http: object = createHttpsServer(CERTIFICATE, application)): Promise<Secure> {
  const site = await TestServer.open(test, given, http as Server)
  const open = (user: string): Promise<Client> => Client.open(site.url(tokenOf(user)).replace('ws:', 'wss:'), [], TRUSTING)
  return { site, open }
}

/** The server's sockets, as they come. */
function sockets(http: Server, event = 'connection'): Socket[] {
  const found: Socket[] = []
  http.on(event, (socket: Socket) => found.push(socket))
  return found
}

const update = (data: Record<string, unknown>) => ({ type: 'amendment', data, timestamp: new Date() })

describe('a TLS server', () => {
  const servers = {
    https: () => createHttpsServer(CERTIFICATE, application),
    'http2 with allowHTTP1': () => createSecureServer({ ...CERTIFICATE, allowHTTP1: true }, (_request, response) => response.end()),
  }
  for (const [name, make] of Object.entries(servers)) {
    it(`of ${name} is attached to`, async (test) => {
      const http = make()
      const service = new WebSocketService(options())
      test.after(() => service.shutdown())
      service.initialize(http as never)
      const port = await listen(http as unknown as Server)
      const client = await Client.open(`wss://127.0.0.1:${port}/ws?token=${tokenOf('ann')}`, [], TRUSTING)
      await client.subscribe(1)
      service.broadcastBillUpdate(1, update({ over: 'tls' }))
      assert.deepEqual((await client.take('bill_update'))['update'].data, { over: 'tls' })
      assert.deepEqual(service.getAllConnectedUsers(), ['ann'])
      assert.deepEqual(await client.close(1000, 'enough'), { code: 1000, reason: 'enough' })
      await service.shutdown()
      const closed = once(http, 'close')
      http.close()
      await within(closed, 'the end of the server')
    })
  }

  it('tells where the peer is', async (test) => {
    const { site, open } = await secure(test)
    const event = site.event('connection')
    await open('ann')
    assert.equal((await event).remoteAddress, '127.0.0.1')
  })

  it('refuses as a plain one does', async (test) => {
    const { site } = await secure(test)
    const socket = connectTls({ port: site.port, host: '127.0.0.1', ...TRUSTING })
    let answer = ''
    socket.on('data', (chunk) => (answer += String(chunk)))
    socket.write(upgradeRequest(withToken('wrong')))
    await within(once(socket, 'end'), 'the end of the refusal')
    assert.match(answer, /^HTTP\/1\.1 401 Unauthorized\r\n[^]*\r\n\r\nUnauthorized$/)
  })

  it('reads frames that came with the request, and each later byte alone', async (test) => {
    const { site } = await secure(test)
    const socket = connectTls({ port: site.port, host: '127.0.0.1', ...TRUSTING })
    await once(socket, 'secureConnect')
    let answer = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => (answer = Buffer.concat([answer, chunk])))
    const first = text({ type: 'subscribe', data: { bill_id: 1 } })
    socket.write(Buffer.concat([Buffer.from(upgradeRequest(withToken(tokenOf('ann')))), first.subarray(0, 5)]))
    for (const byte of first.subarray(5)) socket.write(Buffer.from([byte]))
    await eventually(() => answer.includes('"subscribed"'), 'the reply')
    assert.deepEqual(site.service.getBillSubscribers(1), ['ann'])
    socket.write(closeFrame(1000, 'bye'))
    await within(once(socket, 'end'), 'the end')
    assert.equal(answer.at(-7), 0x80 | Opcode.close)
    assert.equal(answer.toString('latin1', answer.length - 3), 'bye')
  })
})

for (const kind of ['plain', 'tls'] as const) {
  describe(`a bridge (${kind})`, () => {
    const start = async (test: Scope, given = {}): Promise<Secure & { server: () => Socket[] }> => {
      const http = kind === 'tls' ? (createHttpsServer(CERTIFICATE, application) as unknown as Server) : createServer(application)
      const found = sockets(http, kind === 'tls' ? 'secureConnection' : 'connection')
      const { site, open } = await secure(test, { ...bridged, ...given }, http)
      return { site, open: kind === 'tls' ? open : (user) => site.connect(user), server: () => found }
    }

    it('delivers large messages to a client that does not read for a while', async (test) => {
      const { site, open } = await start(test, patient)
      const [slow, other] = [await open('ann'), await open('bob')]
      slow.socket.pause()
      const content = 'x'.repeat(LARGE)
      for (let index = 0; index < 4; index++) site.service.broadcastToAll({ type: 'large', data: { index, content } })
      for (let index = 0; index < 4; index++) assert.equal((await other.take('large'))['data'].content.length, LARGE)
      slow.socket.resume()
      for (let index = 0; index < 4; index++) {
        const { data } = await slow.take('large')
        assert.equal(data.index, index)
        assert.equal(data.content.length, LARGE)
      }
    })

    it('holds up a client that does not take its answers, and loses nothing', async (test) => {
      const { open } = await start(test, { ...patient, base: { MAX_PAYLOAD: 1024 * 1024 } })
      const client = await open('ann')
      client.socket.pause()
      const pending = 2000
      const filler = 'y'.repeat(4000)
      for (let index = 0; index < pending; index++) client.send('unsubscribe', { filler }, { messageId: `m${index}` })
      client.socket.resume()
      for (let index = 0; index < pending; index++) {
        while ((await client.take('ack'))['messageId'] !== `m${index}`);
      }
      await client.probe()
    })

    it('takes messages of the largest size', async (test) => {
      const { open } = await start(test)
      const client = await open('ann')
      client.send('unsubscribe', { filler: 'z'.repeat(100_000) }, { messageId: 'large' })
      assert.equal((await client.take('ack'))['messageId'], 'large')
      client.sendText(JSON.stringify({ type: 'unsubscribe', data: 'z'.repeat(110_000) }))
      assert.equal((await client.whenClosed()).code, 1009)
    })

    it('ends in order from either side', async (test) => {
      const { site, open, server } = await start(test)
      const [ann, bob] = [await open('ann'), await open('bob')]
      assert.deepEqual(await ann.close(4001, 'mine'), { code: 4001, reason: 'mine' })
      await site.service.shutdown()
      assert.deepEqual(await bob.whenClosed(), { code: 1001, reason: 'Server shutdown' })
      await eventually(() => server().every((socket) => socket.destroyed), 'the end of both sockets')
    })

    it('is not disturbed by a socket that is destroyed at any moment', async (test) => {
      const { site, open, server } = await start(test)
      const client = await open('ann')
      const gone = site.event('disconnection', 'ann')
      const socket = server().at(-1) as Socket
      for (let index = 0; index < 50; index++) site.service.broadcastToAll({ type: 'burst', data: { index } })
      socket.destroy(new Error('destroyed on purpose'))
      assert.equal((await gone).code, 1006)
      assert.equal((await client.whenClosed()).code, 1006)
      const other = await open('bob')
      const lost = site.event('disconnection', 'bob')
      other.socket.terminate()
      assert.equal((await lost).code, 1006)
      await eventually(() => site.service.getStats().activeConnections === 0, 'the end of all connections')
      await (await open('cid')).probe()
    })

    it('ends with a socket that is destroyed while its user is looked up', async (test) => {
      let answer: ((found: boolean) => void) | undefined
      const lookupUser = (): Promise<boolean> => new Promise((resolve) => (answer = resolve))
      const { site, open, server } = await start(test, { lookupUser })
      const refused = open('ann').catch((error: Error) => error)
      await eventually(() => answer !== undefined, 'the look-up')
      server().at(-1)?.destroy()
      answer?.(true)
      assert.ok((await refused) instanceof Error)
      await eventually(() => site.service.getStats().activeConnections === 0, 'the end of the connection')
    })

    it('keeps an application error out of the process', async (test) => {
      const log = new Log()
      const { site, open, server } = await start(test, { logger: log.logger })
      const client = await open('ann')
      const socket = server().at(-1) as Socket & { write: unknown }
      socket.write = () => {
        throw new Error('a patched write')
      }
      site.service.broadcastToAll({ type: 'burst', data: {} })
      assert.equal((await client.whenClosed()).code, 1006)
      await log.take('debug', /bridged socket/)
      await eventually(() => site.service.getStats().activeConnections === 0, 'the end of the connection')
    })
  })
}

describe('the process', () => {
  it('is not kept alive by bridged connections', async (test) => {
    const child = new Child(test, 'ending', [], [], { CARILLON_TEST_TRANSPORT: 'bridge' })
    const { port } = await child.hear('listening')
    await Client.open(`ws://127.0.0.1:${port}/ws?token=${tokenOf('ann')}`)
    await child.hear('connected')
    child.tell('close')
    const { code, stderr } = await child.exit()
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  })
})

describe('the server of bridged connections', () => {
  it('closes when shutdown() has ended them', async (test) => {
    const http = createServer(application)
    const service = new WebSocketService(options(bridged))
    test.after(() => service.shutdown())
    service.initialize(http)
    const client = await Client.open(`ws://127.0.0.1:${await listen(http)}/ws?token=${tokenOf('ann')}`)
    let isClosed = false
    http.close(() => (isClosed = true))
    await client.probe()
    assert.equal(isClosed, false, 'Node counts the connection')
    await service.shutdown()
    await eventually(() => isClosed, 'the end of the server')
    await closeServer(http)
  })
})
