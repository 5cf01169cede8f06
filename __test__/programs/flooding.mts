// A service that logs much more to stderr than a pipe holds, and serves a client meanwhile.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import WebSocket from 'ws'
import { application, listen, options } from '../support/server.mjs'
import { tokenOf } from '../support/token.mjs'

const http = createServer(application)
const service = new WebSocketService(options({ threads: 1 }))
service.initialize(http)
const port = await listen(http)

// Each connection is closed for what it sends, which the service logs at its debug level.
for (let round = 0; round < 150; round += 1) {
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${tokenOf(`user-${index}`)}`)
      await once(socket, 'open')
      socket.send('x'.repeat(102_401))
      await once(socket, 'close')
    }),
  )
}
const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${tokenOf('ann')}`)
await once(socket, 'open')
socket.send(JSON.stringify({ type: 'ping' }))
for (;;) {
  const [text] = (await once(socket, 'message')) as [Buffer]
  if (String(text).includes('pong')) break
}
process.send?.({ type: 'served', served: true })
process.on('message', () => {
  // One more line, which brings the count of those that were lost.
  socket.close()
  void service.shutdown().then(() => process.disconnect?.())
  http.close()
})
