// A server with a service that is not shut down. The parent says how the process ends.

import { createServer, type Server } from 'node:http'
import { WebSocketService } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

let server: Server | undefined = createServer(application)
let service: WebSocketService | undefined = new WebSocketService(options())
service.on('connection', () => process.send?.({ type: 'connected' }))
service.initialize(server)
process.send?.({ type: 'listening', port: await listen(server) })

process.on('message', ({ type }: { type: string }) => {
  if (type === 'close' || type === 'collect') {
    server?.close()
    server = service = undefined
    if (type === 'collect') globalThis.gc?.()
    // From here on nothing but the service itself could keep this process alive.
    process.disconnect?.()
  } else if (type === 'exit') {
    process.exit(7)
  } else if (type === 'throw') {
    throw new Error('uncaught on purpose')
  } else if (type === 'busy') {
    // Ends in the middle of publishing.
    for (let index = 0; index < 10_000; index++) {
      service?.broadcastBillUpdate(1, { type: 'new_comment', data: { index }, timestamp: new Date() })
    }
    process.exit(0)
  } else if (type === 'shutdown') {
    // The promise is not awaited: the process ends when the shutdown does.
    void service?.shutdown()
    server?.close()
    process.disconnect?.()
  }
})
