// Compiled, never run: the calls an application of the former service makes must still be well typed, and what can
// only be a mistake must not be.

import type { Server as HttpServer } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { BASE_CONFIG, WebSocketService, webSocketService, type ListenAddress } from 'carillon'

declare const server: HttpServer
declare const secureServer: HttpsServer

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
function same<A, B>(..._proof: Equal<A, B> extends true ? [] : ['the types differ']): void {}

// ── As the former application called it ─────────────────────────────────────────────────────────────────────────────

export async function formerApplication(): Promise<void> {
  const service = new WebSocketService()
  service.initialize(server)
  webSocketService.initialize(server)

  const status: { type: 'status_change'; data: Record<string, unknown>; timestamp: Date } = {
    type: 'status_change',
    data: { old_status: 'committee', new_status: 'passed' },
    timestamp: new Date(),
  }
  webSocketService.broadcastBillUpdate(42, status)
  webSocketService.broadcastBillUpdate(42, { type: 'new_comment', data: { comment_id: 7 }, timestamp: new Date() })
  webSocketService.broadcastBillUpdate(42, { type: 'amendment', data: {}, timestamp: new Date() })
  webSocketService.broadcastBillUpdate(42, { type: 'voting_scheduled', data: {}, timestamp: new Date() })
  webSocketService.sendUserNotification('7', { type: 'verification', title: 'Verified', message: 'Your claim was verified' })
  webSocketService.sendUserNotification('7', { type: 'x', title: 'y', message: 'z', data: { bill_id: 42 } })
  webSocketService.broadcastToAll({ type: 'maintenance', data: { at: 'noon' }, timestamp: new Date() })
  webSocketService.broadcastToAll({ type: 'maintenance', data: {} })

  const { uniqueUsers, activeConnections, totalSubscriptions, uptime, messageSuccessRate } = webSocketService.getStats()
  const sums: number = uniqueUsers + activeConnections + totalSubscriptions + uptime + messageSuccessRate
  const healthy: boolean = webSocketService.getHealthStatus().isHealthy
  const followers: number = webSocketService.getBillSubscribers(42).length
  const mine: number[] = webSocketService.getUserSubscriptions('7')
  const online: boolean = webSocketService.isUserConnected('7')
  const tabs: number = webSocketService.getConnectionCount('7')
  const everybody: string[] = webSocketService.getAllConnectedUsers()
  JSON.stringify(webSocketService.forceMemoryAnalysis())
  void [sums, healthy, followers, mine, online, tabs, everybody]

  webSocketService.cleanup()
  await webSocketService.shutdown()
}

// ── The shapes it relied on ─────────────────────────────────────────────────────────────────────────────────────────

export function formerShapes(service: WebSocketService): void {
  const stats = service.getStats()
  const numbers: number[] = [
    stats.totalConnections, stats.activeConnections, stats.totalMessages, stats.totalBroadcasts, stats.droppedMessages,
    stats.duplicateMessages, stats.queueOverflows, stats.reconnections, stats.startTime, stats.lastActivity,
    stats.peakConnections, stats.uptime, stats.averageLatency, stats.totalSubscriptions, stats.billsWithSubscribers,
    stats.uniqueUsers, stats.queueDepth, stats.averageConnectionsPerUser, stats.connectionPoolSize,
    stats.dedupeCacheSize, stats.messageSuccessRate,
  ]
  const health = service.getHealthStatus()
  const texts: string[] = [
    health.timestamp, health.memoryUsage.heapUsed, health.memoryUsage.heapTotal, health.memoryUsage.external,
    health.memoryUsage.rss, ...health.warnings,
  ]
  numbers.push(health.uptime, health.timeSinceLastActivity, health.heapUsedPercent, health.stats.uptime)
  const { connections, messages, performance, subscriptions } = service.getMetrics()
  numbers.push(connections.active, connections.peak, connections.total, connections.reconnections)
  numbers.push(messages.total, messages.dropped, messages.duplicates, messages.broadcasts)
  numbers.push(performance.averageLatency, performance.queueDepth, performance.queueOverflows, performance.messageSuccessRate)
  numbers.push(performance.p50Latency, performance.p95Latency, performance.p99Latency)
  numbers.push(subscriptions.totalBills, subscriptions.totalSubscriptions, subscriptions.usersWithSubscriptions)
  const analysis = service.forceMemoryAnalysis()
  texts.push(analysis.timestamp, ...analysis.warnings)
  void [analysis.connections, analysis.subscriptions, analysis.messages, analysis.performance, analysis.memory, texts]

  same<ReturnType<WebSocketService['initialize']>, void>()
  same<ReturnType<WebSocketService['shutdown']>, Promise<void>>()
  same<ReturnType<WebSocketService['getUserSubscriptions']>, number[]>()
  same<typeof webSocketService, WebSocketService>()
}

// ── What was added ──────────────────────────────────────────────────────────────────────────────────────────────────

export async function additions(): Promise<void> {
  const service = new WebSocketService({
    path: '/live',
    jwtSecret: 'secret',
    lookupUser: async (userId, claims) => userId === claims['user_id'],
    allowedOrigins: ['https://example.org'],
    slowConsumer: 'drop-oldest',
    batching: 'frames',
    transport: 'bridge',
    trustProxy: ['10.0.0.0/8'],
    base: { HEARTBEAT_INTERVAL: 25_000 },
    runtime: { MAX_CONNECTIONS_PER_USER: 10 },
    logger: console,
  })
  service.initialize(secureServer)
  service
    .on('connection', ({ connectionId, userId, remoteAddress }) => void (connectionId + userId + remoteAddress))
    .once('disconnection', ({ code, reason }) => void (code.toFixed() + reason))
    .on('subscription', ({ billId, subscribed }) => void [billId.toFixed(), subscribed === true])
    .on('slowConsumer', ({ pendingBytes }) => void pendingBytes.toFixed())
    .on('health', ({ status, warnings, memoryPressure }) => void [status === 'degraded', warnings.join(), memoryPressure?.ratio.toFixed(), memoryPressure?.source === 'heap'])
    .on('degradation', ({ level, previous, pressure }) => void [level === 'severe', previous, pressure.toFixed()])
    .on('memoryLeak', ({ severity, analysis }) => void [severity === 'low', analysis.growthRate.toFixed()])
    .on('stateChange', ({ state }) => void (state === 'stopping'))
    .on('error', (error) => void error.code.toUpperCase())
  service.configure({ jwtSecret: 'another' })
  service.runtimeConfig.set('MESSAGE_BATCH_DELAY', service.runtimeConfig.get('MESSAGE_BATCH_SIZE'))
  service.runtimeConfig.reset()
  const { DEDUPE_WINDOW } = service.runtimeConfig.toObject()
  const grace: number = BASE_CONFIG.SHUTDOWN_GRACE_PERIOD + DEDUPE_WINDOW
  void grace
  const text: string = service.metricsText()
  const { shards, slowestConsumers, largestTopics, degradationLevel } = service.inspect({ top: 5 })
  void [text, shards[0]?.queuedOperations.toFixed(), slowestConsumers[0]?.userId.length, largestTopics[0]?.billId.toFixed(), degradationLevel === 'critical']
  void service.getMetrics().history.map(({ timestamp, residentBytes, memoryPressure, deliveriesPerSecond }) => timestamp + residentBytes + memoryPressure + deliveriesPerSecond)
  void service.inspect()
  service.reportMemoryPressure({ pressure: 0.9, threshold: 0.85 })
  service.reportMemoryLeak({ severity: 'high', recommendations: [], analysis: { growthRate: 5, retainedIncrease: 1e8 } })
  if (service.state === 'running') await service.shutdown()
}

// ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────

export async function ownPort(service: WebSocketService): Promise<string> {
  const address: ListenAddress = await service.listen({ port: 0, host: 'localhost', tls: { cert: Buffer.from(''), key: '' } })
  return `${address.host}:${address.port}`
}

export function mistakes(service: WebSocketService): void {
  // @ts-expect-error a bill is named by a number
  service.broadcastBillUpdate('42', { type: 'new_comment', data: {}, timestamp: new Date() })
  // @ts-expect-error an update has a timestamp
  service.broadcastBillUpdate(42, { type: 'new_comment', data: {} })
  // @ts-expect-error a user is named by a string
  service.sendUserNotification(7, { type: 'x', title: 'y', message: 'z' })
  // @ts-expect-error a notification has a title
  service.sendUserNotification('7', { type: 'x', message: 'z' })
  // @ts-expect-error there is no such option
  new WebSocketService({ jwtSecrets: 'secret' })
  // @ts-expect-error there is no such policy
  new WebSocketService({ slowConsumer: 'ignore' })
  // @ts-expect-error there is no such event
  service.on('message', () => {})
  // @ts-expect-error there is no such setting
  service.runtimeConfig.get('HEARTBEAT_INTERVAL')
  // @ts-expect-error the constants do not change
  BASE_CONFIG.MAX_PAYLOAD = 1
  // @ts-expect-error the state is read-only
  service.state = 'running'
  // @ts-expect-error a port is a number
  void service.listen({ port: '8080' })
  // @ts-expect-error a server is attached to, not a port
  service.initialize(8080)
}
