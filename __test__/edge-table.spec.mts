// Which request of a server is answered by what: a test for each cell of the first table of docs/edge.md, on each kind of server, with
// every number of other listeners and of services.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Server } from 'node:http'
import { describe, it } from 'node:test'
import type { WebSocketService } from 'carillon'
import { EdgeTable } from './support/edge-table.mjs'
import { EdgeSite, KINDS, ours, type Kind, type UpgradeListener } from './support/edge.mjs'
import { Opcode, text, upgradeRequest } from './support/raw.mjs'
import type { Scope } from './support/server.mjs'
import { within } from './support/waiting.mjs'

const table = new EdgeTable('Which request is answered by what')
const ALONE = 'no other listener'
const BESIDE = 'other listeners'

const THEIRS = '/theirs'
const NOBODYS = '/neither'

/** Takes its own path, whatever the protocol, and leaves every other alone. */
const foreign: UpgradeListener = (request, socket) => {
  if (request.url !== THEIRS) return
  socket.on('error', () => {})
  socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: theirs\r\nConnection: Upgrade\r\n\r\ntheirs')
}
const idle: UpgradeListener = () => {}
const adding = (listener: UpgradeListener) => (http: Server): void => void http.on('upgrade', listener)

interface Layout {
  name: string
  services: number
  before?: (http: Server) => void
  after?: (http: Server) => void
}

const neighbours: Record<string, Array<Omit<Layout, 'services'>>> = {
  [ALONE]: [{ name: 'alone' }],
  [BESIDE]: [
    { name: 'one before', before: adding(foreign) },
    { name: 'one after', after: adding(foreign) },
    { name: 'two before', before: (http) => [idle, foreign].forEach((listener) => adding(listener)(http)) },
    { name: 'two after', after: (http) => [idle, foreign].forEach((listener) => adding(listener)(http)) },
    { name: 'one before and one after', before: adding(idle), after: adding(foreign) },
  ],
}

/** How a cell is tested on a server whose services have the paths `/1`, `/2` …. */
type Body = (site: EdgeSite, services: WebSocketService[]) => Promise<void>

/** A test for a cell on each kind of server, with each layout of listeners, one to three services. */
function cell(row: string, column: string, body: Body): void {
  const title = table.cell(row, column)
  for (const kind of KINDS) {
    it(`${title} (${kind})`, async (test) => {
      for (const services of [1, 2, 3]) {
        await Promise.all((neighbours[column] ?? []).map((layout) => inLayout(test, kind, { ...layout, services }, body)))
      }
    })
  }
}

async function inLayout(test: Scope, kind: Kind, { name, services, before, after }: Layout, body: Body): Promise<void> {
  const site = await EdgeSite.open(test, kind, {
    service: { path: '/1' },
    before: (http) => before?.(http),
    after: (http) => after?.(http),
  })
  const all = [site.service, ...Array.from({ length: services - 1 }, (_, index) => site.another({ path: `/${index + 2}` }))]
  try {
    await body(site, all)
  } catch (error) {
    throw new Error(`with ${services} services, other listeners: ${name}`, { cause: error })
  }
}

const paths = (services: WebSocketService[]): string[] => services.map((_, index) => `/${index + 1}`)
const isOurs400 = (answer: string): void => assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\nConnection: close\r\n[^]*\r\n\r\n(Bad Request|Invalid Upgrade header)$/)
const other = (target: string): string =>
  upgradeRequest({ target, headers: { Upgrade: 'TLS/1.0', 'Sec-WebSocket-Key': undefined, 'Sec-WebSocket-Version': undefined } })

async function takesItsPath(site: EdgeSite, services: WebSocketService[]): Promise<void> {
  for (const [index, path] of paths(services).entries()) {
    const peer = await site.connection(`user ${index}`, path)
    void peer.write(text({ type: 'ping' }))
    while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
    assert.deepEqual(services[index]?.getAllConnectedUsers(), [`user ${index}`])
  }
}

async function isTheirs(site: EdgeSite, request: string): Promise<void> {
  const peer = await site.send(request)
  assert.equal((await peer.response()).headers['upgrade'], 'theirs')
  assert.equal(await peer.rest(), 'theirs')
}

async function isRefusedAfterASecond(site: EdgeSite, request: string): Promise<void> {
  const started = performance.now()
  const peer = await site.send(request)
  isOurs400(await peer.rest())
  assert.ok(performance.now() - started > 990, 'not before a second has passed')
}

/** The application's answer to an upgrade request, on a connection that it keeps. */
async function isTheApplications(site: EdgeSite, request: string): Promise<void> {
  const { status, headers } = await (async () => {
    const peer = await site.send(request)
    const response = await peer.response()
    assert.equal((await peer.bytes(Number(response.headers['content-length']))).toString(), 'the application')
    return response
  })()
  assert.equal(status, 200, JSON.stringify(headers))
}

describe('a request of a server is answered as the table says', () => {
  for (const column of [ALONE, BESIDE]) {
    cell('Upgrade: websocket, path of a service', column, takesItsPath)

    cell('without Upgrade', column, async (site, services) => {
      for (const path of [...paths(services), THEIRS, '/']) assert.equal(await site.get(path), 'the application')
    })

    cell('Upgrade: websocket with a body', column, async (site, services) => {
      for (const path of paths(services)) {
        for (const [headers, content] of [[{ 'Content-Length': '5' }, 'frame'], [{ 'Transfer-Encoding': 'chunked' }, '5\r\nframe\r\n0\r\n\r\n']] as const) {
          const peer = await site.send(upgradeRequest({ ...ours('ann', path), headers: { ...headers } }) + content)
          isOurs400(await peer.rest())
        }
      }
    })

    cell('while the service stops, its path', column, async (site, services) => {
      const peer = await site.connection('ann', '/1')
      const stopped = services[0]?.shutdown()
      assert.equal((await peer.close()).code, 1001)
      assert.equal((await site.requestUpgrade(ours('bob', '/1'))).response.status, 503)
      await takesItsPathExceptFirst(site, services)
      peer.destroy()
      await within(stopped ?? Promise.resolve(), 'the end of the service')
    })
  }

  cell('Upgrade: websocket, another path', ALONE, async (site) => {
    for (const target of [NOBODYS, '/', '/1/more']) isOurs400(await (await site.send(upgradeRequest({ target }))).rest())
  })

  cell('Upgrade: websocket, another path', BESIDE, async (site) => {
    await isTheirs(site, upgradeRequest({ target: THEIRS }))
    await isRefusedAfterASecond(site, upgradeRequest({ target: NOBODYS }))
  })

  cell('Upgrade with another value (h2c, TLS/1.0)', ALONE, async (site, services) => {
    for (const target of [...paths(services), NOBODYS]) await isTheApplications(site, other(target))
  })

  cell('Upgrade with another value (h2c, TLS/1.0)', BESIDE, async (site) => {
    await isTheirs(site, other(THEIRS))
    await isRefusedAfterASecond(site, other('/1'))
  })

  cell('after shutdown()', ALONE, async (site, services) => {
    await Promise.all(services.map((service) => service.shutdown()))
    await isTheApplications(site, upgradeRequest(ours('ann', '/1')))
  })

  cell('after shutdown()', BESIDE, async (site, services) => {
    await Promise.all(services.map((service) => service.shutdown()))
    await isTheirs(site, upgradeRequest({ target: THEIRS }))
    // Nothing of ours is left that would answer in place of a listener that does not.
    let left: Parameters<UpgradeListener>[1] | undefined
    const told = once(site.http, 'upgrade').then(([, socket]) => (left = socket as typeof left))
    const peer = await site.send(upgradeRequest(ours('ann', '/1')))
    await within(told, 'the event')
    left?.end('HTTP/1.1 418 Theirs\r\nContent-Length: 0\r\n\r\n')
    assert.match(await peer.rest(), /^HTTP\/1\.1 418 /)
  })
})

/** The other services of a server go on when the first one stops. */
async function takesItsPathExceptFirst(site: EdgeSite, services: WebSocketService[]): Promise<void> {
  for (const [index, path] of paths(services).entries()) {
    if (index === 0) continue
    await site.connection('ann', path)
    assert.deepEqual(services[index]?.getAllConnectedUsers(), ['ann'])
  }
}

table.complete()
