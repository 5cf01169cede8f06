// A worker thread with a server and a service of its own. Publishes without end once it is told to.

import { createServer } from 'node:http'
import { parentPort, workerData } from 'node:worker_threads'
import { WebSocketService } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const { name } = workerData as { name: string }
const server = createServer(application)
const service = new WebSocketService(options({ maxBackpressure: 64 * 1024 * 1024 }))
service.initialize(server)
parentPort?.postMessage({ type: 'listening', port: await listen(server) })

let index = 0
function publish(): void {
  for (let count = 0; count < 5; count++) {
    service.broadcastBillUpdate(1, { type: 'new_comment', data: { name, index: index++ }, timestamp: new Date() })
  }
  setTimeout(publish, 2)
}

parentPort?.on('message', async (order: string) => {
  if (order === 'publish') publish()
  if (order === 'stop') {
    await service.shutdown()
    server.close()
    parentPort?.close()
  }
})
