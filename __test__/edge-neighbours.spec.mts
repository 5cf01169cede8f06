// Our path beside the libraries that applications put on the same server, as their manuals say to, attached in either order.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import type { RequestListener, Server } from 'node:http'
import { before, describe, it } from 'node:test'
import { WebSocketServer, WebSocket } from 'ws'
import { EdgeTable } from './support/edge-table.mjs'
import { EdgeSite, create, type Kind } from './support/edge.mjs'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { install, neighbour, NEIGHBOURS } from './support/neighbours.mjs'
import { Opcode, text, upgradeRequest } from './support/raw.mjs'
import { TRUSTING } from './support/tls.mjs'
import { tokenOf } from './support/token.mjs'
import { application } from './support/server.mjs'
import { MANDATORY } from './support/tools.mjs'
import { within } from './support/waiting.mjs'

const ADDRESS_KINDS: Kind[] = ['plain', 'bridge', 'tls']
const ORDERS = ['before', 'after'] as const
const table = new EdgeTable('Libraries on the same server')
const cell = (library: string, order: string): string => table.cell(library, `attached ${order}`)

const address = (site: EdgeSite, path: string): string => `${site.kind === 'tls' ? 'wss' : 'ws'}://127.0.0.1:${site.port}${path}`

async function oursWorks(site: EdgeSite): Promise<void> {
  const peer = await site.connection('ann')
  void peer.write(text({ type: 'ping' }))
  while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
  assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
  const refused = await site.requestUpgrade({ target: '/ws' })
  assert.equal(refused.response.statusLine, 'HTTP/1.1 401 Unauthorized')
  // Whatever else listens has had its time to break the connection.
  void peer.write(text({ type: 'ping' }))
  while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
  peer.destroy()
}

/** A connection to a server of `ws`, and what it echoes. */
async function echoed(url: string, message: string, protocols: string[] = []): Promise<string> {
  const socket = new WebSocket(url, protocols, TRUSTING)
  try {
    await within(once(socket, 'open'), `a connection to ${url}`)
    const answer = once(socket, 'message')
    socket.send(message)
    return String((await within(answer, 'an answer'))[0])
  } finally {
    socket.terminate()
  }
}

for (const kind of ADDRESS_KINDS) {
  for (const order of ORDERS) {
    describe(`beside ws (${kind})`, () => {
      it(cell('ws with { server, path }', order), async (test) => {
        const site = await EdgeSite.open(test, kind, {
          [order]: (server: Server) => new WebSocketServer({ server, path: '/theirs' }).on('connection', (socket) => socket.on('message', (data) => socket.send(String(data)))),
        })
        await oursWorks(site)
        assert.equal(await echoed(address(site, '/theirs'), 'theirs'), 'theirs')
        const refused = await site.requestUpgrade({ target: '/neither' })
        assert.equal(refused.response.status, 400)
        await oursWorks(site)
      })

      it(cell('ws with { noServer } and socket.destroy() for other paths', order), async (test) => {
        const theirs = new WebSocketServer({ noServer: true })
        theirs.on('connection', (socket) => socket.on('message', (data) => socket.send(String(data))))
        const site = await EdgeSite.open(test, kind, {
          [order]: (server: Server) =>
            server.on('upgrade', (request, socket, head) => {
              if (request.url === '/theirs') theirs.handleUpgrade(request, socket, head, (client) => theirs.emit('connection', client, request))
              else socket.destroy()
            }),
        })
        await oursWorks(site)
        assert.equal(await echoed(address(site, '/theirs'), 'theirs'), 'theirs')
      })
    })
  }
}

describe('beside larger libraries', { timeout: 900_000 }, () => {
  let missing: string | undefined
  before(async () => {
    missing = await install()
    if (MANDATORY) assert.equal(missing, undefined)
  })

  for (const kind of ADDRESS_KINDS) {
    for (const order of ORDERS) {
      it(`${cell('graphql-ws', order)} (${kind})`, async (test) => {
        if (missing) return test.skip(missing)
        const { useServer } = await neighbour('graphql-ws/use/ws')
        const { GraphQLObjectType, GraphQLSchema, GraphQLString } = await neighbour('graphql')
        const query = new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'world' } } })
        const site = await EdgeSite.open(test, kind, {
          [order]: (server: Server) => useServer({ schema: new GraphQLSchema({ query }) }, new WebSocketServer({ server, path: '/graphql' })),
        })
        await oursWorks(site)
        assert.equal(await echoed(address(site, '/graphql'), '{"type":"connection_init"}', ['graphql-transport-ws']), '{"type":"connection_ack"}')
      })

      it(`${cell('Socket.IO', order)} (${kind})`, async (test) => {
        if (missing) return test.skip(missing)
        const { Server: SocketIo } = await neighbour('socket.io')
        const { io } = await neighbour('socket.io-client')
        let theirs: { close(): Promise<void>; on: Function } | undefined
        const site = await EdgeSite.open(test, kind, {
          [order]: (server: Server) => {
            // It destroys foreign upgrade requests after `destroyUpgradeTimeout`.
            theirs = new SocketIo(server, { destroyUpgradeTimeout: 50 }) as typeof theirs
            theirs?.on('connection', (socket: { on: Function; emit: Function }) => socket.on('echo', (data: string) => socket.emit('echo', data)))
          },
        })
        await oursWorks(site)
        const client = io(address(site, '').replace('ws', 'http'), { transports: ['websocket'], reconnection: false, ...TRUSTING })
        try {
          const answer = new Promise<string>((resolve, reject) => {
            client.on('connect_error', reject)
            client.on('echo', resolve)
            client.emit('echo', 'theirs')
          })
          assert.equal(await within(answer, 'an answer of Socket.IO'), 'theirs')
        } finally {
          client.disconnect()
        }
        const peer = await site.connection('bob')
        const other = await site.send(upgradeRequest({ target: '/neither' }))
        // Socket.IO's time for a foreign request has passed when it has closed that one; ours lives.
        await within(other.ended, 'the end of a foreign request')
        void peer.write(text({ type: 'ping' }))
        while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
      })

      it(`${cell('Vite as middleware', order)} (${kind})`, async (test) => {
        if (missing) return test.skip(missing)
        const { createServer } = await neighbour('vite')
        const root = `${NEIGHBOURS}/vite-${kind}-${order}`
        mkdirSync(root, { recursive: true })
        writeFileSync(`${root}/index.html`, '<!doctype html><p>vite</p>')
        let handle: RequestListener = application
        const http = create(kind, (request, response) => handle(request, response))
        const start = () => createServer({ root, configFile: false, logLevel: 'silent', server: { middlewareMode: true, hmr: { server: http }, watch: null } })
        const early = order === 'before' ? await start() : undefined
        const site = await EdgeSite.open(test, kind, { given: http })
        const vite = early ?? (await start())
        test.after(() => vite.close())
        handle = vite.middlewares
        await oursWorks(site)
        const socket = new WebSocket(address(site, `/?token=${vite.config.webSocketToken}`), ['vite-hmr'], TRUSTING)
        const [data] = (await within(once(socket, 'message'), 'Vite\'s greeting')) as [Buffer]
        assert.deepEqual(JSON.parse(String(data)), { type: 'connected' })
        socket.terminate()
      })
    }
  }

  for (const order of ORDERS) {
    it(cell('Next as a custom server', order === 'before' ? 'after' : 'before'), { timeout: 300_000 }, async (test) => {
      if (missing) return test.skip(missing)
      const child = new Child(test, 'next', [order], [], { NEXT_TELEMETRY_DISABLED: '1', FORCE_COLOR: '0' })
      const port = (await child.hear('listening', 120_000))['port'] as number
      const base = `ws://127.0.0.1:${port}`
      const works = async (user: string): Promise<Client> => {
        const client = await Client.open(`${base}/ws?token=${tokenOf(user)}`)
        await client.probe()
        return client
      }
      const ann = await works('ann')
      // Next adds its own listener with the first request.
      const page = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(120_000) })
      assert.match(await page.text(), /rendered by next/)
      const bob = await works('bob')
      await ann.probe()
      const theirs = new WebSocket(`${base}/_next/hmr?id=test`)
      await within(once(theirs, 'open'), "a connection to Next's own socket", 60_000)
      theirs.terminate()
      await bob.probe()
      child.tell('users')
      const told = await child.hear('users')
      assert.deepEqual(told['users'], ['ann', 'bob'])
      assert.ok((told['listeners'] as number) > 1, 'Next listens, too')
    })
  }
})

table.complete()
