// A service in a process of its own, to be stopped and continued by signals: over the transport and with the heartbeat that the
// arguments name.

import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const [mode, base] = process.argv.slice(2)
const service = new WebSocketService(options({ threads: 1, transport: mode === 'bridge' ? 'bridge' : 'auto', base: JSON.parse(base ?? '{}') as Record<string, number> }))
let port: number
if (mode === 'own') {
  port = (await service.listen({ port: 0, host: '127.0.0.1' })).port
} else {
  const server = createServer(application)
  service.initialize(server)
  port = await listen(server)
}
process.on('message', () => process.send?.({ type: 'count', count: service.getStats().activeConnections, pid: process.pid }))
process.send?.({ type: 'listening', port, pid: process.pid })
