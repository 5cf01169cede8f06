// A service in a process of its own, which tells on demand what it holds: for tests that measure a whole process.

import { readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { application, listen, options } from '../support/server.mjs'

const server = createServer(application)
server.keepAliveTimeout = 1
const service = new WebSocketService(options(JSON.parse(process.argv[2] ?? '{}') as WebSocketServiceOptions))
service.initialize(server)
process.send?.({ type: 'listening', port: await listen(server) })

process.on('message', async ({ type, bill }: { type: string; bill?: number }) => {
  if (type === 'report') {
    globalThis.gc?.()
    process.send?.({
      type: 'report',
      rss: process.memoryUsage.rss(),
      descriptors: process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0,
      stats: service.getStats(),
      users: service.getAllConnectedUsers().length,
      subscribers: service.getBillSubscribers(bill ?? 1).length,
      analysis: service.forceMemoryAnalysis(),
    })
  } else if (type === 'publish') {
    service.broadcastBillUpdate(bill ?? 1, { type: 'amendment', data: {}, timestamp: new Date() })
  } else if (type === 'stop') {
    await service.shutdown()
    server.close()
    server.closeAllConnections()
    process.disconnect?.()
  }
})
