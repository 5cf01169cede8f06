// A service with a port of its own in a process that may open few descriptors.

import { WebSocketService } from 'carillon'
import { options } from '../support/server.mjs'

let shortages = 0
const service = new WebSocketService(
  options({
    threads: 3,
    logger: {
      debug: () => {},
      info: () => {},
      warn: (message) => {
        if (!/no connection can be accepted/.test(message)) return
        shortages += 1
        process.send?.({ type: 'shortage' })
      },
      error: () => {},
    },
  }),
)
const { port } = await service.listen({ port: 0, host: '127.0.0.1' })
process.on('message', () => process.send?.({ type: 'shortages', count: shortages }))
process.send?.({ type: 'listening', port })
