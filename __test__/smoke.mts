// The shortest way through everything: load the addon by `require` and by `import`, attach, connect, subscribe, broadcast, shut down;
// the same on a port of the service's own, with a hook. Run as a program of its own, by any runtime; it needs nothing from the test
// runner.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { WebSocketService, webSocketService, BASE_CONFIG } from 'carillon'
import jwt from 'jsonwebtoken'
import WebSocket from 'ws'

interface Received {
  type: string
  messages?: Received[]
  [member: string]: unknown
}

const required = createRequire(import.meta.url)('carillon') as typeof import('carillon')
assert.equal(required.WebSocketService, WebSocketService)
assert.equal(required.webSocketService, webSocketService)
assert.ok(webSocketService instanceof WebSocketService)
assert.equal(BASE_CONFIG.HEARTBEAT_INTERVAL, 30_000)

const jwtSecret = 'a secret of this run alone'
const server = createServer((_request, response) => response.end('still the application'))
server.listen(0, '127.0.0.1')
await once(server, 'listening')
const { port } = server.address() as AddressInfo
const service = new WebSocketService({ jwtSecret })
service.initialize(server)
assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'still the application')

await serve(service, port)
server.close()
server.closeAllConnections()
await once(server, 'close')

const asked: string[] = []
const own = new WebSocketService({ jwtSecret, threads: 1, lookupUser: async (userId) => asked.push(userId) > 0 })
await serve(own, (await own.listen({ port: 0, host: '127.0.0.1' })).port)
assert.deepEqual(asked, ['smoke'])
assert.equal(own.state, 'stopped')
console.log(`smoke passed on Node ${process.version}`)

/** A client comes, follows, is told, and is closed in order. */
async function serve(service: WebSocketService, port: number): Promise<void> {
  const token = jwt.sign({ user_id: 'smoke' }, jwtSecret, { expiresIn: '1m' })
  const client = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${token}`)
  const inbox: Received[] = []
  const closed = once(client, 'close')
  client.on('message', (data) => {
    const message = JSON.parse(String(data)) as Received
    inbox.push(...(message.messages ?? [message]))
    client.emit('arrived')
  })
  await once(client, 'open')
  client.send(JSON.stringify({ type: 'subscribe', data: { bill_id: 42 } }))
  await arrival(client, inbox, 'subscribed')
  assert.deepEqual(service.getBillSubscribers(42), ['smoke'])
  service.broadcastBillUpdate(42, { type: 'new_comment', data: { text: 'hello' }, timestamp: new Date() })
  assert.deepEqual((await arrival(client, inbox, 'bill_update'))['bill_id'], 42)
  const [[code, reason]] = await Promise.all([closed, service.shutdown()])
  assert.deepEqual([code, String(reason)], [1001, 'Server shutdown'])
}

async function arrival(client: WebSocket, inbox: Received[], type: string): Promise<Received> {
  for (;;) {
    const found = inbox.find((message) => message.type === type)
    if (found) return found
    await once(client, 'arrived', { signal: AbortSignal.timeout(10_000) })
  }
}
