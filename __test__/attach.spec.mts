// Where a service can be attached, how often, and what it leaves behind when its process or thread ends.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { Worker } from 'node:worker_threads'
import { WebSocketService } from 'carillon'
import express from 'express'
import fastify from 'fastify'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { Log } from './support/log.mjs'
import { Opcode, RawPeer, text, upgradeRequest } from './support/raw.mjs'
import { TRANSPORT, TestServer, application, closeServer, listen, options, withToken, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const url = (port: number, user: string, path = '/ws'): string => `ws://127.0.0.1:${port}${path}?token=${tokenOf(user)}`

/** Why a certificate cannot be made here, if it cannot. */
function hasOpenssl(): false | string {
  return spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is missing'
}

function certificate(test: Scope): { key: Buffer; cert: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-'))
  test.after(() => rmSync(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const made = spawnSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=localhost', '-keyout', key, '-out', cert,
  ])
  assert.equal(made.status, 0, String(made.stderr))
  return { key: readFileSync(key), cert: readFileSync(cert) }
}

/** A request is answered and a publish arrives. */
async function works(service: WebSocketService, client: Client): Promise<void> {
  await client.subscribe(5)
  service.broadcastBillUpdate(5, { type: 'amendment', data: { works: Math.random() }, timestamp: new Date() })
  await client.take('bill_update')
}

describe('initialize', () => {
  for (const order of ['before', 'after'] as const) {
    it(`attaches ${order} the server listens`, async (test) => {
      const http = createServer(application)
      if (order === 'after') await listen(http)
      const site = await TestServer.open(test, {}, http)
      await works(site.service, await site.connect('ann'))
    })
  }

  const frameworks: Record<string, () => Promise<{ server: Server; close?: () => Promise<void> }>> = {
    'plain http': async () => ({ server: createServer((_request, response) => response.end('plain http')) }),
    express: async () => {
      const app = express()
      app.get('/', (_request, response) => void response.send('express'))
      return { server: createServer(app) }
    },
    fastify: async () => {
      const app = fastify()
      app.get('/', async () => 'fastify')
      await app.ready()
      return { server: app.server }
    },
  }
  for (const [name, make] of Object.entries(frameworks)) {
    it(`shares one port with ${name}`, async (test) => {
      const { server } = await make()
      const site = await TestServer.open(test, {}, server)
      const get = async (): Promise<string> => (await fetch(`http://127.0.0.1:${site.port}/`)).text()
      assert.equal(await get(), name)
      await works(site.service, await site.connect('ann'))
      assert.equal(await get(), name)
    })
  }

  it('listens on a Unix socket too', { skip: process.platform === 'win32' }, async (test) => {
    const folder = mkdtempSync(join(tmpdir(), 'carillon-'))
    test.after(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'http.sock')
    const http = createServer(application).listen(path)
    await once(http, 'listening')
    const site = await TestServer.open(test, {}, http)
    const peer = await RawPeer.connect({ path })
    test.after(() => peer.destroy())
    void peer.write(upgradeRequest(withToken(tokenOf('ann'))))
    assert.equal((await peer.response()).status, 101)
    void peer.write(text({ type: 'ping' }))
    while ((await peer.frameOf(Opcode.text)).payload.toString() !== '{"type":"pong","priority":"immediate"}');
    assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
  })

  it('shares an HTTPS server', { skip: hasOpenssl() }, async (test) => {
    const https = createHttpsServer(certificate(test), application)
    const site = await TestServer.open(test, {}, https)
    const address = `wss://127.0.0.1:${site.port}/ws?token=${tokenOf('ann')}`
    const client = await Client.open(address, [], { rejectUnauthorized: false })
    await works(site.service, client)
    const closed = client.close(1000)
    assert.equal((await closed).code, 1000)
    assert.equal(site.service.getConnectionCount('ann'), 0)
  })

  it('is ignored with a log line while the service runs', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, { logger: log.logger })
    const other = createServer(application)
    site.service.initialize(site.http)
    site.service.initialize(other)
    assert.equal(site.http.listenerCount('upgrade'), 1)
    assert.equal(other.listenerCount('upgrade'), 0)
    await works(site.service, await site.connect('ann'))
    await log.take('warn', /initialize/)
    await log.take('warn', /initialize/)
  })

  it('starts afresh after shutdown, on the same server or another', async (test) => {
    const site = await TestServer.open(test)
    const first = await site.connect('ann')
    await works(site.service, first)
    await site.service.shutdown()
    assert.equal(site.service.state, 'stopped')
    site.service.initialize(site.http)
    assert.equal(site.service.state, 'running')
    await works(site.service, await site.connect('ann'))
    await site.service.shutdown()

    const other = createServer(application)
    test.after(() => closeServer(other))
    site.service.initialize(other)
    const client = await Client.open(url(await listen(other), 'bob'))
    await works(site.service, client)
    const { response } = await site.requestUpgrade(withToken(tokenOf('ann')))
    assert.equal(response.status, 200, 'the first server has its upgrade requests back')
    await site.service.shutdown()
    assert.equal((await client.whenClosed()).code, 1001)
  })

  it('refuses what is no server', () => {
    const service = new WebSocketService(options())
    for (const wrong of [undefined, null, 8080, 'server', {}, []]) {
      assert.throws(() => service.initialize(wrong as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /server/ })
    }
    assert.equal(service.state, 'stopped')
  })
})

describe('two services in one process', () => {
  it('know nothing of each other', async (test) => {
    const [one, two] = [await TestServer.open(test), await TestServer.open(test)]
    const [ann, bob] = [await one.connect('ann'), await two.connect('bob')]
    await works(one.service, ann)
    await works(two.service, bob)
    assert.deepEqual(one.service.getAllConnectedUsers(), ['ann'])
    assert.deepEqual(two.service.getAllConnectedUsers(), ['bob'])
    await one.service.shutdown()
    assert.equal((await ann.whenClosed()).code, 1001)
    await works(two.service, bob)
  })

  it('share a server by their paths', async (test) => {
    const one = await TestServer.open(test, { path: '/one' })
    const two = new WebSocketService(options({ path: '/two' }))
    test.after(() => two.shutdown())
    two.initialize(one.http)
    const ann = await Client.open(url(one.port, 'ann', '/one'))
    const bob = await Client.open(url(one.port, 'bob', '/two'))
    await works(one.service, ann)
    await works(two, bob)
    assert.deepEqual(one.service.getAllConnectedUsers(), ['ann'])
    assert.deepEqual(two.getAllConnectedUsers(), ['bob'])
    await two.shutdown()
    await bob.whenClosed()
    await works(one.service, ann)
  })
})

describe('the end of the HTTP server', () => {
  // A bridged socket stays Node's, and Node's close() waits for it: shutdown() comes first there.
  it('is not held up by connections, and does not end them', { skip: TRANSPORT === 'bridge' }, async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    const closed = once(site.http, 'close')
    site.http.close()
    site.http.closeIdleConnections()
    await within(closed, 'close() of a server with a connection')
    await works(site.service, client)
  })
})

describe('the end of the process', () => {
  const start = async (test: TestContext, execArgv: string[] = []): Promise<{ child: Child; client: Client }> => {
    const child = new Child(test, 'ending', [], execArgv)
    const { port } = await child.hear('listening')
    const client = await Client.open(url(port as number, 'ann'))
    await child.hear('connected')
    await client.subscribe(1)
    return { child, client }
  }

  const endings: Array<[name: string, order: string, code: number, execArgv?: string[]]> = [
    ['comes by itself when the server is closed without a call of shutdown()', 'close', 0],
    ['comes by itself when the service is garbage', 'collect', 0, ['--expose-gc']],
    ['comes with process.exit()', 'exit', 7],
    ['comes with process.exit() in the middle of publishing', 'busy', 0],
    ['comes with an uncaught exception', 'throw', 1],
    ['comes after a shutdown that is not awaited', 'shutdown', 0],
  ]
  for (const [name, order, code, execArgv] of endings) {
    it(`${name}: code ${code}`, async (test) => {
      const { child, client } = await start(test, execArgv)
      child.tell(order)
      const exit = await child.exit()
      assert.deepEqual({ code: exit.code, signal: exit.signal }, { code, signal: null }, exit.stderr)
      if (order === 'throw') assert.match(exit.stderr, /uncaught on purpose/)
      else assert.equal(exit.stderr, '')
      const closed = await client.whenClosed()
      if (order === 'shutdown') assert.deepEqual(closed, { code: 1001, reason: 'Server shutdown' })
    })
  }
})

describe('worker threads', () => {
  const start = async (test: TestContext, name: string): Promise<{ worker: Worker; client: Client }> => {
    const worker = new Worker(new URL('programs/worker.mjs', import.meta.url), { workerData: { name } })
    test.after(() => worker.terminate())
    const [{ port }] = (await within(once(worker, 'message'), `worker ${name}`)) as [{ port: number }]
    const client = await Client.open(url(port, name))
    await client.subscribe(1)
    return { worker, client }
  }

  it('have services of their own, and one may be terminated in the middle of traffic', async (test) => {
    const site = await TestServer.open(test)
    const local = await site.connect('main')
    const [first, second, third] = await Promise.all([start(test, 'first'), start(test, 'second'), start(test, 'third')])
    for (const { worker } of [first, second, third]) worker.postMessage('publish')
    for (const [name, { client }] of Object.entries({ first, second, third })) {
      for (const [index, message] of (await client.takeMany('bill_update', 100)).entries()) {
        assert.deepEqual(message['update'].data, { name, index })
      }
    }
    await within(second.worker.terminate(), 'the end of a worker')
    await second.client.whenClosed()
    for (const { client } of [first, third]) {
      const count = client.received('bill_update').length
      await client.takeMany('bill_update', count)
      assert.equal(client.socket.readyState, client.socket.OPEN)
    }
    await works(site.service, local)
    assert.deepEqual(site.service.getAllConnectedUsers(), ['main'])
  })

  it('end by themselves after a shutdown', async (test) => {
    const { worker, client } = await start(test, 'only')
    const exited = once(worker, 'exit')
    worker.postMessage('stop')
    assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
    assert.deepEqual(await within(exited, 'the end of the worker'), [0])
  })

  it('may come and go one after another', async (test) => {
    for (const name of ['a', 'b', 'c', 'd']) {
      const { worker, client } = await start(test, name)
      worker.postMessage('publish')
      await client.takeMany('bill_update', 20)
      await within(worker.terminate(), 'the end of a worker')
      await client.whenClosed()
    }
  })
})

describe('cluster workers', () => {
  it('serve one port together', async (test) => {
    const child = new Child(test, 'cluster')
    const { port, ports } = await child.hear('listening')
    assert.deepEqual(ports, [port, port])
    const clients = await Promise.all(Array.from({ length: 8 }, (_, index) => Client.open(url(port as number, `user ${index}`))))
    const pids = await Promise.all(clients.map(async (client) => (await client.take('notification'))['notification'].title as string))
    assert.equal(new Set(pids).size, 2, pids.join(' '))
    child.tell('stop')
    for (const client of clients) assert.equal((await client.whenClosed()).code, 1001)
    assert.deepEqual((await child.hear('stopped'))['codes'], [0, 0])
    assert.equal((await child.exit()).code, 0)
  })
})
