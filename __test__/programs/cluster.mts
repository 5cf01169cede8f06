// Two cluster workers share a port. Each greets its connections with its process id; `stop` ends all in order.

import cluster from 'node:cluster'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { WebSocketService } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

if (cluster.isPrimary) {
  const workers = [cluster.fork(), cluster.fork()]
  // Ports that are 0 are the same port for all workers.
  const ports = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0] as number))
  process.send?.({ type: 'listening', port: ports[0], ports })
  process.on('message', async ({ type }: { type: string }) => {
    if (type !== 'stop') return
    const exits = workers.map((worker) => once(worker, 'exit'))
    workers.forEach((worker) => worker.send('stop'))
    const codes = (await Promise.all(exits)).map(([code, signal]) => (signal ?? code) as unknown)
    process.send?.({ type: 'stopped', codes })
    process.disconnect?.()
  })
} else {
  const server = createServer(application)
  const service = new WebSocketService(options())
  service.on('connection', ({ userId }) => {
    service.sendUserNotification(userId, { type: 'pid', title: String(process.pid), message: '' })
  })
  service.initialize(server)
  process.send?.(await listen(server))
  process.on('message', async (order) => {
    if (order !== 'stop') return
    await service.shutdown()
    server.close()
    process.disconnect?.()
  })
}
