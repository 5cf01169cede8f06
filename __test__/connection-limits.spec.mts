// What happens to the connection that is one too many, and how a client learns why it is turned away: attached, bridged and on the own port.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { describe, it } from 'node:test'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { Client } from './support/client.mjs'
import { application, closeServer, listen, options, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const REPLACED = { code: 4009, reason: 'Replaced by a newer connection' }

interface Site {
  service: WebSocketService
  url(token: string, path?: string): string
}

const ways: Record<string, (test: Scope, given: WebSocketServiceOptions) => Promise<Site>> = {
  attached,
  bridged: (test, given) => attached(test, { ...given, transport: 'bridge' }),
  'on the own port': async (test, given) => {
    const service = new WebSocketService(options(given))
    test.after(() => service.shutdown())
    const { port } = await service.listen({ port: 0, host: '127.0.0.1' })
    return { service, url: (token, path = '/ws') => `ws://127.0.0.1:${port}${path}?token=${token}` }
  },
}

async function attached(test: Scope, given: WebSocketServiceOptions): Promise<Site> {
  const service = new WebSocketService(options(given))
  const http = createServer(application)
  test.after(async () => {
    await service.shutdown()
    await closeServer(http)
  })
  service.initialize(http)
  const port = await listen(http)
  return { service, url: (token, path = '/ws') => `ws://127.0.0.1:${port}${path}?token=${token}` }
}

/** The code and reason of a connection that is closed as soon as it is open; its subprotocol is answered, or browsers would not show them. */
async function refusal(url: string, headers: Record<string, string> = {}): Promise<{ code: number; reason: string }> {
  const client = await Client.open(url, ['civic-engagement-v1'], { headers })
  assert.equal(client.socket.protocol, 'civic-engagement-v1')
  const closed = await client.whenClosed()
  assert.deepEqual(client.frames, [])
  return closed
}

const status = async (url: string): Promise<string> => {
  const client = new Client(url)
  const [error] = (await within(once(client.socket, 'error'), 'a refusal')) as [Error]
  return error.message
}

for (const [way, open] of Object.entries(ways)) {
  describe(`a connection that is one too many, ${way}`, () => {
    it('takes the place of the oldest', async (test) => {
      const { service, url } = await open(test, { connectionLimit: 'close-oldest', runtime: { MAX_CONNECTIONS_PER_USER: 2 } })
      const gone: number[] = []
      service.on('disconnection', ({ code }) => gone.push(code))
      const clients = [await Client.open(url(tokenOf('ann'))), await Client.open(url(tokenOf('ann')))]
      for (let round = 0; round < 4; round++) {
        clients.push(await Client.open(url(tokenOf('ann'))))
        assert.deepEqual(await clients.shift()?.whenClosed(), REPLACED)
        assert.equal(service.getConnectionCount('ann'), 2)
      }
      for (const client of clients) await client.probe()
      assert.deepEqual(gone, [4009, 4009, 4009, 4009])
      assert.match(service.metricsText(), /carillon_connections_closed_total\{reason="replaced"\} 4/)
    })

    it('replaces no connection when it is refused for another reason', async (test) => {
      const { service, url } = await open(test, {
        connectionLimit: 'close-oldest',
        runtime: { MAX_CONNECTIONS_PER_USER: 1 },
        lookupUser: (_user, claims) => claims['known'],
      })
      const client = await Client.open(url(tokenOf('ann', { claims: { known: true } })))
      assert.match(await status(url(tokenOf('ann', { claims: { known: false } }))), /401/)
      await client.probe()
      assert.equal(service.getConnectionCount('ann'), 1)
    })

    it('is refused by default', async (test) => {
      const { url } = await open(test, { runtime: { MAX_CONNECTIONS_PER_USER: 1 } })
      const client = await Client.open(url(tokenOf('ann')))
      assert.match(await status(url(tokenOf('ann'))), /401/)
      await client.probe()
    })

    it('gets 503 when the service has as many as it may have', async (test) => {
      const { service, url } = await open(test, { maxConnections: 2 })
      const clients = [await Client.open(url(tokenOf('ann'))), await Client.open(url(tokenOf('bob')))]
      assert.match(await status(url(tokenOf('cid'))), /503/)
      assert.match(service.metricsText(), /carillon_handshakes_rejected_total\{reason="too_many_connections"\} 1/)
      await clients[0]?.close(1000)
      // Its socket is gone a moment after its close frame.
      for (let client: Client | undefined; !client; ) client = await Client.open(url(tokenOf('cid'))).catch(() => undefined)
    })
  })

  describe(`a refusal by a close code, ${way}`, () => {
    it('says why', async (test) => {
      const { service, url } = await open(test, {
        refusals: 'close',
        maxConnections: 2,
        allowedOrigins: 'same-host',
        runtime: { MAX_CONNECTIONS_PER_USER: 1 },
      })
      const told: string[] = []
      service.on('connection', ({ userId }) => told.push(`connection ${userId}`))
      service.on('disconnection', ({ userId }) => told.push(`disconnection ${userId}`))
      const clients = [await Client.open(url(tokenOf('ann')))]
      assert.deepEqual(await refusal(url('wrong')), { code: 4401, reason: 'Unauthorized' })
      assert.deepEqual(await refusal(url(tokenOf('bob')), { Origin: 'https://evil.example' }), { code: 4403, reason: 'Forbidden' })
      assert.deepEqual(await refusal(url(tokenOf('ann'))), { code: 4409, reason: 'Connection limit reached' })
      clients.push(await Client.open(url(tokenOf('bob'))))
      assert.deepEqual(await refusal(url(tokenOf('cid'))), { code: 4503, reason: 'Service unavailable' })
      assert.match(await status(url(tokenOf('cid'), '/elsewhere')), /400/)
      for (const client of clients) await client.probe()
      assert.equal(service.getStats().totalConnections, 2)
      assert.deepEqual(told, ['connection ann', 'connection bob'])
    })
  })
}

describe('a refusal by a close code', () => {
  it('says so when the service is stopping', async (test) => {
    const { service, url } = await attached(test, { refusals: 'close', base: { SHUTDOWN_GRACE_PERIOD: 60_000 } })
    const client = await Client.open(url(tokenOf('ann')))
    // A peer that does not read keeps the service stopping.
    client.socket.pause()
    const stopped = service.shutdown()
    assert.equal(service.state, 'stopping')
    assert.deepEqual(await refusal(url(tokenOf('bob'))), { code: 4503, reason: 'Service unavailable' })
    client.socket.resume()
    await stopped
  })
})
