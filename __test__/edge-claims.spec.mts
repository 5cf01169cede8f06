// Which listener of a server answers which upgrade request: see the table in docs/edge.md.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Server } from 'node:http'
import { EdgeSite, KINDS, ours, type UpgradeListener } from './support/edge.mjs'
import { Opcode, text, upgradeRequest, type RawPeer } from './support/raw.mjs'

const REFUSED = 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 11\r\n\r\nBad Request'
const FOREIGN = '/foreign'

/** A listener as hostile as those of libraries: it answers its own path and refuses every other. */
const greedy = (path: string): UpgradeListener => (request, socket) => {
  socket.on('error', () => {})
  if (request.url?.startsWith(path)) socket.end(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${path}`)
  else socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 7\r\n\r\nforeign', () => socket.destroy())
}

/** A listener that answers its own path and ignores every other. */
const polite = (path: string): UpgradeListener => (request, socket, head) => {
  if (request.url?.startsWith(path)) greedy(path)(request, socket, head)
}

const destroying: UpgradeListener = (_request, socket) => void socket.destroy()

const throughout = async (peer: RawPeer): Promise<void> => {
  void peer.write(text({ type: 'ping' }))
  while ((await peer.frameOf(Opcode.text)).payload.toString() !== '{"type":"pong","priority":"immediate"}');
}

type Setup = { before?: (http: Server) => void; after?: (http: Server) => void }
const add = (...listeners: UpgradeListener[]) => (http: Server): void => listeners.forEach((listener) => void http.on('upgrade', listener))
const neighbours: Record<string, Setup> = {
  'no other listener': {},
  'a greedy listener before': { before: add(greedy(FOREIGN)) },
  'a greedy listener after': { after: add(greedy(FOREIGN)) },
  'a greedy listener prepended later': { after: (http) => void http.prependListener('upgrade', greedy(FOREIGN)) },
  'two listeners around': { before: add(greedy(FOREIGN)), after: add(greedy(`${FOREIGN}-too`)) },
  'two listeners before': { before: add(polite(FOREIGN), destroying) },
  'one that destroys, prepended later': { after: (http) => void http.prependListener('upgrade', destroying) },
}

for (const kind of KINDS) {
  describe(`our path on a server (${kind})`, () => {
    for (const [name, setup] of Object.entries(neighbours)) {
      it(`is ours with ${name}`, async (test) => {
        const site = await EdgeSite.open(test, kind, setup)
        const peer = await site.connection('ann')
        await throughout(peer)
        assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
        const { response } = await site.requestUpgrade({ target: '/ws' })
        assert.equal(response.statusLine, 'HTTP/1.1 401 Unauthorized', 'a refusal is ours, too')
        assert.equal(await site.get('/ws'), 'the application', 'a plain request is not')
      })
    }
  })

  describe(`another path on a server (${kind})`, () => {
    it('is refused at once when only we listen', async (test) => {
      const site = await EdgeSite.open(test, kind)
      const peer = await site.send(upgradeRequest({ target: FOREIGN }))
      assert.equal(await peer.rest(), REFUSED)
    })

    for (const order of ['before', 'after'] as const) {
      it(`belongs to a listener added ${order} us`, async (test) => {
        const site = await EdgeSite.open(test, kind, { [order]: add(polite(FOREIGN)) })
        const peer = await site.send(upgradeRequest({ target: FOREIGN }))
        assert.equal((await peer.response()).status, 101)
        assert.equal(await peer.rest(), FOREIGN)
        await throughout(await site.connection('ann'))
      })
    }

    it('is refused by a listener that refuses it, and not by us as well', async (test) => {
      const site = await EdgeSite.open(test, kind, { after: add(greedy(FOREIGN)) })
      const peer = await site.send(upgradeRequest({ target: '/neither' }))
      assert.equal(await peer.rest(), 'HTTP/1.1 400 Bad Request\r\nContent-Length: 7\r\n\r\nforeign')
    })

    it('is refused and closed after a second when no listener has touched it', async (test) => {
      const site = await EdgeSite.open(test, kind, { before: add(polite(FOREIGN)), after: add(polite(`${FOREIGN}-too`)) })
      const started = performance.now()
      const peer = await site.send(upgradeRequest({ target: '/neither' }))
      assert.equal(await peer.rest(), REFUSED)
      assert.ok(performance.now() - started > 990, 'not before a second has passed')
    })
  })

  describe(`services that share a server (${kind})`, () => {
    for (const count of [2, 3]) {
      it(`answer each its own path: ${count}`, async (test) => {
        const site = await EdgeSite.open(test, kind, { service: { path: '/1' } })
        const services = [site.service, ...Array.from({ length: count - 1 }, (_, index) => site.another({ path: `/${index + 2}` }))]
        const peers = await Promise.all(services.map((_, index) => site.connection(`user ${index + 1}`, `/${index + 1}`)))
        for (const [index, service] of services.entries()) assert.deepEqual(service.getAllConnectedUsers(), [`user ${index + 1}`])
        await Promise.all(peers.map(throughout))
        const nobodys = await site.send(upgradeRequest(ours('ann', '/4')))
        assert.equal(await nobodys.rest(), REFUSED)
        const first = peers[0] as RawPeer
        const down = services[0]?.shutdown()
        assert.equal((await first.close()).code, 1001)
        first.destroy()
        await down
        const gone = await site.send(upgradeRequest(ours('ann', '/1')))
        assert.equal(await gone.rest(), REFUSED, 'the path of a service that has gone is free')
        await throughout(await site.connection('bob', '/2'))
      })
    }
  })
}

describe('a request that no listener answers', () => {
  const touched: Record<string, UpgradeListener> = {
    'listens to the socket': (_request, socket) => void socket.on('error', () => {}),
    'reads the socket': (_request, socket) => void socket.resume(),
    'has written to the socket': (_request, socket) => void socket.write('HTTP/1.1 1'),
  }
  for (const [name, listener] of Object.entries(touched)) {
    for (const kind of ['plain', 'tls'] as const) {
      it(`stays with a listener that ${name} (${kind})`, async (test) => {
        let held: Parameters<UpgradeListener>[1] | undefined
        const holding: UpgradeListener = (request, socket, head) => {
          if (request.url !== '/held') return
          held = socket
          listener(request, socket, head)
        }
        const site = await EdgeSite.open(test, kind, { after: add(holding) })
        const peer = await site.send(upgradeRequest({ target: '/held' }))
        // One that is refused came later, so the second of the first has passed.
        const other = await site.send(upgradeRequest({ target: '/neither' }))
        assert.equal(await other.rest(), REFUSED)
        held?.end(name.startsWith('has written') ? '01' : 'HTTP/1.1 101')
        assert.equal(await peer.rest(), 'HTTP/1.1 101')
      })
    }
  }

  it('costs no descriptor when its peer resets the connection meanwhile', async (test) => {
    const site = await EdgeSite.open(test, 'plain', { after: add(polite(FOREIGN)) })
    const closed: Array<Promise<void>> = []
    site.http.on('connection', (socket) => closed.push(new Promise((resolve) => void socket.on('close', () => resolve()))))
    const peer = await site.raw()
    await peer.write(upgradeRequest({ target: '/neither' }))
    peer.reset()
    await Promise.all(closed)
    assert.equal(closed.length, 1)
    await throughout(await site.connection('ann'))
  })
})

describe('what we add to a server', () => {
  const traces = (http: Server): unknown => ({
    emit: Object.hasOwn(http, 'emit'),
    symbols: Object.getOwnPropertySymbols(http).filter((symbol) => String(symbol).includes('carillon')).length,
    upgrade: http.listeners('upgrade'),
    removal: http.listeners('removeListener'),
    shouldUpgrade: (http as { shouldUpgradeCallback?: unknown }).shouldUpgradeCallback,
    keys: Object.keys(http),
  })

  for (const kind of KINDS) {
    it(`goes with the last service (${kind})`, async (test) => {
      let before: unknown
      const foreign = polite(FOREIGN)
      const site = await EdgeSite.open(test, kind, {
        service: { path: '/1' },
        before: (http) => {
          http.on('upgrade', foreign)
          before = traces(http)
        },
      })
      const second = site.another({ path: '/2' })
      assert.equal(site.http.listenerCount('upgrade'), 2, 'one listener of ours for both')
      await site.service.shutdown()
      const last = await site.connection('ann', '/2')
      await throughout(last)
      last.destroy()
      await second.shutdown()
      assert.deepEqual(traces(site.http), { ...(before as object), keys: Object.keys(site.http) })
      const peer = await site.send(upgradeRequest({ target: FOREIGN }))
      assert.equal((await peer.response()).status, 101)
    })
  }

  it('passes everything on when another wrapper lies above it', async (test) => {
    const site = await EdgeSite.open(test, 'plain', { after: add(polite(FOREIGN)) })
    const { http, service } = site
    const seen: string[] = []
    const inner = http.emit
    http.emit = function (this: Server, event: string, ...rest: unknown[]) {
      seen.push(event)
      return Reflect.apply(inner, this, [event, ...rest]) as boolean
    } as typeof http.emit
    const first = await site.connection('ann')
    await throughout(first)
    first.destroy()
    await service.shutdown()
    assert.equal(http.listenerCount('upgrade'), 1)
    const peer = await site.send(upgradeRequest({ target: FOREIGN }))
    assert.equal((await peer.response()).status, 101)
    assert.equal(await site.get(), 'the application')
    service.initialize(http)
    await throughout(await site.connection('bob'))
    assert.deepEqual([...new Set(seen)].sort(), ['connection', 'request', 'upgrade'])
  })

  it('works for a dispatcher that calls the listeners of the server itself', async (test) => {
    const site = await EdgeSite.open(test, 'plain')
    const { http } = site
    const inner = http.emit
    http.emit = function (this: Server, event: string, ...rest: unknown[]) {
      if (event !== 'upgrade') return Reflect.apply(inner, this, [event, ...rest]) as boolean
      for (const listener of this.listeners('upgrade')) Reflect.apply(listener, this, rest)
      return true
    } as typeof http.emit
    await throughout(await site.connection('ann'))
    const peer = await site.send(upgradeRequest(ours('ann', '/elsewhere')))
    assert.equal(await peer.rest(), REFUSED)
  })

  it('lets the errors and the results of the application\'s events through', async (test) => {
    const { http } = await EdgeSite.open(test, 'plain')
    http.on('custom', () => {
      throw new Error('the application\'s own')
    })
    assert.throws(() => http.emit('custom'), /the application's own/)
    assert.equal(http.emit('unheard'), false)
    http.once('heard', (one: number, two: number) => assert.deepEqual([one, two], [1, 2]))
    assert.equal(http.emit('heard', 1, 2), true)
  })
})

