// Compiled, never run: the calls an application of the former service makes must still be well typed, and what can
// only be a mistake must not be.

import type { Server as HttpServer } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'
import {
  BASE_CONFIG,
  WebSocketService,
  webSocketService,
  type BaseConfig,
  type BillUpdate,
  type BroadcastMessage,
  type DegradationLevel,
  type HealthStatus,
  type Inspection,
  type ListenAddress,
  type ListenOptions,
  type Logger,
  type MemoryAnalysis,
  type MemoryLeakData,
  type MemoryPressure,
  type RuntimeConfig,
  type RuntimeConfigValues,
  type ServiceEvents,
  type ServiceMetrics,
  type ServiceStats,
  type UpdateType,
  type UserNotification,
  type WebSocketServiceOptions,
} from 'carillon'

declare const server: HttpServer
declare const secureServer: HttpsServer
declare const http2Server: Http2SecureServer

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

/** Every option, each with a value of each kind it takes. A new option has to be added here. */
export const everyOption: Required<WebSocketServiceOptions> = {
  path: '/live',
  jwtSecret: 'secret',
  jwtPublicKey: '-----BEGIN PUBLIC KEY-----',
  jwtAlgorithms: ['RS256'],
  jwtUserIdClaim: 'sub',
  jwtIssuer: 'issuer',
  jwtAudience: 'audience',
  lookupUser: async (userId, claims) => userId === claims['user_id'],
  lookupTimeout: 1000,
  lookupCacheTtl: 60_000,
  authTimeout: 5000,
  preferences: { load: async (userId) => ({ userId }), save: (userId, preferences) => void [userId, preferences['language']] },
  allowedOrigins: ['https://example.org'],
  compression: false,
  batching: 'frames',
  maxQueueBytes: 1 << 20,
  maxBackpressure: 1 << 16,
  maxSubscriptions: 5000,
  maxAnonymous: 50,
  memorySources: { machine: false },
  connectionLimit: 'close-oldest',
  refusals: 'close',
  maxConnections: 10_000,
  handshakeTimeout: 5000,
  slowConsumer: 'drop-oldest',
  trustProxy: ['10.0.0.0/8'],
  messageRate: 10,
  messageBurst: 20,
  threads: 2,
  transport: 'bridge',
  base: { HEARTBEAT_INTERVAL: 25_000 },
  runtime: { MAX_CONNECTIONS_PER_USER: 10 },
  circuitBreaker: true,
  loggerStyle: 'auto',
  logger: console,
}

export const otherValues: WebSocketServiceOptions[] = [
  {},
  { connectionLimit: 'refuse', refusals: 'status' },
  { lookupUser: () => true, allowedOrigins: '*', batching: 'envelope', slowConsumer: 'close', trustProxy: 1, transport: 'auto' },
  { lookupUser: (userId) => userId.length, allowedOrigins: 'same-host', slowConsumer: 'drop-newest', logger: {} },
  { logger: { warn: (message, context) => void [message.length, context?.['connection']] } },
  { base: everyConstant(), runtime: everySetting() },
]

function everyConstant(): BaseConfig {
  return {
    HEARTBEAT_INTERVAL: 30_000,
    HEALTH_CHECK_INTERVAL: 60_000,
    STALE_CONNECTION_THRESHOLD: 60_000,
    CONNECTION_POOL_SIZE: 10_000,
    MAX_QUEUE_SIZE: 1000,
    MAX_PAYLOAD: 102_400,
    MAX_LATENCY_SAMPLES: 200,
    DEDUPE_CACHE_CLEANUP_AGE: 1_800_000,
    MAX_RECONNECT_ATTEMPTS: 3,
    RECONNECT_DELAY: 1000,
    HIGH_MEMORY_THRESHOLD: 85,
    CRITICAL_MEMORY_THRESHOLD: 95,
    PERFORMANCE_HISTORY_MAX_SIZE: 100,
    SHUTDOWN_GRACE_PERIOD: 5000,
  }
}

function everySetting(): RuntimeConfigValues {
  return {
    MESSAGE_BATCH_SIZE: 10,
    MESSAGE_BATCH_DELAY: 50,
    COMPRESSION_THRESHOLD: 1024,
    DEDUPE_CACHE_SIZE: 5000,
    DEDUPE_WINDOW: 5000,
    MAX_CONNECTIONS_PER_USER: 5,
    MEMORY_CLEANUP_INTERVAL: 180_000,
  }
}

/** Every event, with every member of its argument. A new event has to be added here. */
export const everyListener: { [E in keyof ServiceEvents]: ServiceEvents[E] } = {
  connection: ({ connectionId, userId, remoteAddress }) => void (connectionId + userId + remoteAddress),
  disconnection: ({ connectionId, userId, code, reason, clean }) => void (connectionId + userId + code.toFixed() + reason + (clean satisfies boolean)),
  subscription: ({ connectionId, userId, billId, subscribed }) => void [connectionId + userId, billId.toFixed(), subscribed === true],
  slowConsumer: ({ connectionId, userId, pendingBytes, action }) => void [connectionId + userId, pendingBytes.toFixed(), action === 'drop-newest'],
  degradation: ({ level, previous, pressure }) => void [level === 'severe', previous === 'normal', pressure.toFixed()],
  memoryLeak: ({ severity, recommendations, analysis }) =>
    void [severity === 'low', recommendations.join(' '), analysis.growthRate.toFixed(), analysis.retainedIncrease.toFixed()],
  health: ({ status, isHealthy, warnings }) => void [status === 'unhealthy', isHealthy === false, warnings.join(' ')],
  stateChange: ({ state }) => void (state === 'stopping'),
  error: (error) => void [error.code.toUpperCase(), error.message, error.stack],
}

export function listening(service: WebSocketService): void {
  const same: WebSocketService = service
    .on('connection', everyListener.connection)
    .on('disconnection', everyListener.disconnection)
    .on('subscription', everyListener.subscription)
    .on('slowConsumer', everyListener.slowConsumer)
    .on('degradation', everyListener.degradation)
    .on('memoryLeak', everyListener.memoryLeak)
    .on('health', everyListener.health)
    .once('stateChange', everyListener.stateChange)
    .off('error', everyListener.error)
  void same
  for (const event of Object.keys(everyListener) as (keyof ServiceEvents)[]) service.once(event, () => {})
}

export async function additions(): Promise<void> {
  const service = new WebSocketService(everyOption)
  service.initialize(secureServer)
  service.initialize(http2Server)
  service.configure({ jwtSecret: 'another' })
  service.reportMemoryPressure({ pressure: 0.9, threshold: 0.85 })
  const leak: MemoryLeakData = { severity: 'high', recommendations: [], analysis: { growthRate: 5, retainedIncrease: 1e8 } }
  service.reportMemoryLeak(leak)
  switch (service.state) {
    case 'stopped':
    case 'stopping':
      return
    case 'running':
      await service.shutdown()
  }
  // Every state is named above.
  same<WebSocketService['state'], 'stopped' | 'running' | 'stopping'>()
}

export function settings({ runtimeConfig }: WebSocketService): number {
  const config: RuntimeConfig = runtimeConfig
  config.set('MESSAGE_BATCH_DELAY', config.get('MESSAGE_BATCH_SIZE'))
  config.reset()
  same<Parameters<RuntimeConfig['get']>[0], keyof RuntimeConfigValues>()
  same<ReturnType<RuntimeConfig['toObject']>, RuntimeConfigValues>()
  same<typeof BASE_CONFIG, Readonly<BaseConfig>>()
  return config.toObject().DEDUPE_WINDOW + BASE_CONFIG.SHUTDOWN_GRACE_PERIOD
}

export async function ownPort(service: WebSocketService): Promise<string> {
  const options: ListenOptions = { port: 0 }
  await service.listen(options)
  const address: ListenAddress = await service.listen({ port: 0, host: 'localhost', tls: { cert: Buffer.from(''), key: '' } })
  return `${address.host}:${address.port}`
}

export function monitoring(service: WebSocketService): void {
  const text: string = service.metricsText()
  const { shards, slowestConsumers, largestTopics, degradationLevel } = service.inspect()
  const numbers: number[] = service.inspect({ top: 3 }).shards.map(({ id }) => id)
  for (const shard of shards) numbers.push(shard.id, shard.connections, shard.topics, shard.queuedOperations, shard.pendingBytes)
  for (const topic of largestTopics) numbers.push(topic.billId, topic.subscribers)
  for (const consumer of slowestConsumers) numbers.push(consumer.pendingBytes, consumer.dropped, consumer.connectionId.length, consumer.userId.length)
  for (const second of service.getMetrics().history) {
    numbers.push(second.timestamp, second.connections, second.messagesPerSecond, second.deliveriesPerSecond)
    numbers.push(second.averageLatency, second.pendingBytes, second.residentBytes, second.memoryPressure)
  }
  const { memoryPressure } = service.getHealthStatus()
  if (memoryPressure !== undefined) numbers.push(memoryPressure.ratio)
  void [text, numbers, degradationLevel]

  same<DegradationLevel, 'normal' | 'light' | 'moderate' | 'severe' | 'critical'>()
  same<HealthStatus['degradationLevel'], DegradationLevel>()
  same<Inspection['degradationLevel'], DegradationLevel>()
  same<HealthStatus['status'], 'healthy' | 'degraded' | 'unhealthy'>()
  same<MemoryPressure['source'], 'container' | 'heap' | 'machine' | 'report'>()
  same<Parameters<ServiceEvents['health']>[0], ReturnType<WebSocketService['getHealthStatus']>>()
  same<ReturnType<WebSocketService['getMetrics']>, ServiceMetrics>()
  same<ReturnType<WebSocketService['getStats']>, ServiceStats>()
  same<ReturnType<WebSocketService['inspect']>, Inspection>()
  same<ReturnType<WebSocketService['forceMemoryAnalysis']>, MemoryAnalysis>()
}

/** Types that an application names in its own signatures. */
export function published(update: BillUpdate, notification: UserNotification, message: BroadcastMessage, logger: Logger): void {
  const type: UpdateType = 'amendment'
  webSocketService.broadcastBillUpdate(1, { ...update, type, timestamp: '2026-01-01T00:00:00Z' })
  webSocketService.broadcastBillUpdate(1, { ...update, type: 'a type of its own', timestamp: Date.now() })
  webSocketService.sendUserNotification('7', notification)
  webSocketService.broadcastToAll(message)
  logger.info?.('published')
}

/** Every public member of the service. A new one has to be added here, and used above. */
export const everyMember: Record<keyof WebSocketService, true> = {
  initialize: true, listen: true, shutdown: true, cleanup: true, configure: true, runtimeConfig: true, state: true,
  broadcastBillUpdate: true, sendUserNotification: true, broadcastToAll: true,
  getStats: true, getHealthStatus: true, getMetrics: true, forceMemoryAnalysis: true, metricsText: true, inspect: true,
  getUserSubscriptions: true, isUserConnected: true, getConnectionCount: true, getAllConnectedUsers: true, getBillSubscribers: true,
  reportMemoryPressure: true, reportMemoryLeak: true, on: true, once: true, off: true,
  addListener: true, removeListener: true, removeAllListeners: true, prependListener: true, prependOnceListener: true,
  listenerCount: true, listeners: true, rawListeners: true, eventNames: true, emit: true, getMaxListeners: true, setMaxListeners: true,
}

// ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────

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
  // @ts-expect-error a listener gets what its event has
  service.on('connection', ({ code }) => void code)
  // @ts-expect-error there is no such transport
  new WebSocketService({ transport: 'tcp' })
  // @ts-expect-error preferences are loaded and saved
  new WebSocketService({ preferences: { load: () => ({}) } })
  // @ts-expect-error there is no such severity
  service.reportMemoryLeak({ severity: 'fatal', recommendations: [], analysis: { growthRate: 1, retainedIncrease: 1 } })
  // @ts-expect-error a pressure is relative to a threshold
  service.reportMemoryPressure({ pressure: 0.9 })
  // @ts-expect-error there is no such setting
  service.runtimeConfig.set('MAX_PAYLOAD', 1)
  // @ts-expect-error the configuration is the service's own
  service.runtimeConfig = undefined
  // @ts-expect-error may be absent
  void service.getHealthStatus().memoryPressure.ratio
  // @ts-expect-error a port is a number
  void service.listen({ port: '8080' })
  // @ts-expect-error a server is attached to, not a port
  service.initialize(8080)
}
