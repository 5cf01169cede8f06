// The service attached to an http.Server. Speaks to bench/run.mjs over IPC.

import http from 'node:http'
import { WebSocketService } from 'carillon'
import { serve } from './serve.mjs'

const service = new WebSocketService({ jwtSecret: process.env.BENCH_SECRET, threads: 1 })
const server = http.createServer()
service.initialize(server)

serve(server, {
  count: () => service.getStats().activeConnections,
  subscribed: () => service.getBillSubscribers(1).length,
  publish: (payload) => service.broadcastToAll({ type: 'bench', data: { payload } }),
})
