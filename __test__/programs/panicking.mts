// Uses a service in every way while the service panics where CARILLON_TEST_PANIC says, and tells what came of it.

import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import WebSocket from 'ws'
import { application, listen, options } from '../support/server.mjs'
import { tokenOf } from '../support/token.mjs'

const thrown: Record<string, unknown> = {}
const errors: string[] = []
let refused = 0

/** Notes the code of what an action throws, then tries it again. */
function attempt<T>(name: string, action: () => T): T {
  try {
    return action()
  } catch (error) {
    thrown[name] = (error as { code?: string }).code
    return action()
  }
}

const settings = options({ lookupUser: async () => true, threads: 1 })
const service = attempt('constructor', () => new WebSocketService(settings))
attempt('configure', () => service.configure(settings))
attempt('on', () => service.on('error', ({ code }) => void errors.push(code)))
service.on('connection', () => {})
const http = createServer(application)
attempt('initialize', () => service.initialize(http))
const port = await listen(http)

/** A connection that has been greeted. A handshake may be refused, and a shard that is restarted ends the connections it has. */
async function greeted(user: string): Promise<WebSocket> {
  for (;;) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${tokenOf(user)}`)
    // Before it opens: the greeting comes with the answer to the handshake.
    const end = await new Promise<'greeted' | 'closed' | 'refused'>((resolve) => {
      let hasOpened = false
      socket.once('open', () => (hasOpened = true))
      socket.once('message', () => resolve('greeted'))
      socket.on('error', () => {})
      socket.once('close', () => resolve(hasOpened ? 'closed' : 'refused'))
    })
    if (end === 'greeted') return socket
    if (end === 'refused') refused += 1
  }
}

const socket = await greeted('ann')
attempt('getStats', () => service.getStats())
attempt('getMetrics', () => service.getMetrics())
attempt('getHealthStatus', () => service.getHealthStatus())
attempt('isUserConnected', () => service.isUserConnected('ann'))
attempt('state', () => service.state)
attempt('metricsText', () => service.metricsText())
attempt('runtimeConfig.get', () => service.runtimeConfig.get('MESSAGE_BATCH_SIZE'))
attempt('sendUserNotification', () => service.sendUserNotification('ann', { type: 'n', title: 't', message: 'm' }))
attempt('broadcastBillUpdate', () => service.broadcastBillUpdate(1, { type: 'amendment', data: {}, timestamp: new Date() }))
attempt('broadcastToAll', () => service.broadcastToAll({ type: 'first', data: {} }))
const another = await greeted('bob')
const works = new Promise((resolve) => socket.on('message', (text) => String(text).includes('"last"') && resolve('works')))
service.broadcastToAll({ type: 'last', data: {} })
process.send?.({ type: 'done', thrown, errors, refused, again: await works })
process.on('message', () => {
  another.terminate()
  process.exit(0)
})
