// A service whose listeners and logger reject, in a process where an unhandled rejection is the end.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import WebSocket from 'ws'
import { application, listen, options } from '../support/server.mjs'
import { tokenOf } from '../support/token.mjs'

const fail = async (): Promise<void> => {
  throw new Error('rejected on purpose')
}
const http = createServer(application)
const service = new WebSocketService(options({ logger: { debug: fail, info: fail, warn: fail, error: fail } }))
service.on('connection', fail)
service.initialize(http)
const port = await listen(http)
for (const user of ['ann', 'bob']) {
  const told = once(service, 'connection')
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${tokenOf(user)}`)
  await Promise.all([told, once(socket, 'open')])
}
// An unhandled rejection would end the process before its next turns.
for (let turns = 0; turns < 20; turns += 1) await new Promise((resolve) => setImmediate(resolve))
process.send?.({ type: 'survived' })
process.on('message', () => process.exit(0))
