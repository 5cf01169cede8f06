/* eslint-disable */
/* The types that no Rust item declares: options, callbacks, what is published. Times are milliseconds, sizes bytes. */

import type { Server as HttpServer } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'

export interface WebSocketServiceOptions {
  /** @default '/ws' */
  path?: string | undefined
  /** HS256/384/512 secret. A text that holds a public key in any form is `ERR_INVALID_OPTION`; one shorter than the hash (RFC 7518
   *  §3.2) is used with a warning in the log. @default process.env.JWT_SECRET */
  jwtSecret?: string | undefined
  /** PEM public key for RS*, PS* (2048 to 8192 bits), ES256, ES384, EdDSA; excludes jwtSecret. */
  jwtPublicKey?: string | undefined
  /** @default ['HS256','HS384','HS512'] with a secret; required with a public key */
  jwtAlgorithms?: string[] | undefined
  /** @default 'user_id' */
  jwtUserIdClaim?: string | undefined
  jwtIssuer?: string | undefined
  jwtAudience?: string | undefined
  /** Tells whether the user exists. The result is resolved as `await` does; a falsy one is answered with 401. Without the hook every
   *  valid token is accepted. It runs in the async context (`AsyncLocalStorage`) in which the options were given. After a rejection the call is
   *  repeated up to twice within `lookupTimeout`, then the handshake is answered with 401. See `circuitBreaker`. */
  lookupUser?: ((userId: string, claims: Record<string, unknown>) => unknown | Promise<unknown>) | undefined
  /** The deadline of a hook, retries included; a call that takes longer has failed. @default 5000 */
  lookupTimeout?: number | undefined
  /** Does not call a hook for 5 to 60 s after 5 failures in a row, or when more than half of the last 20 calls failed; handshakes
   *  that need it are answered with 503 and Retry-After. Every time-out counts, rejections count once per user. @default true */
  circuitBreaker?: boolean | undefined
  /** How long a connection without a token may take to send {"type":"auth"}. 0: such connections are refused with 401. @default 0 */
  authTimeout?: number | undefined
  /** How many connections may wait for their token at the same time, with `authTimeout`; further ones are answered with 503. After 3 refused `auth` messages a
   *  connection is closed with 1008. @default 1000 */
  maxAnonymous?: number | undefined
  /** Load and store preferences; without them every user has the same constants. Deadline, retries and circuit breaker are those of
   *  `lookupUser`, but `save` is never repeated. */
  preferences?: {
    /** What `JSON.stringify` makes of the value is sent. A value without JSON form (`undefined`, a function, a cycle) is an error to the client
     *  and a line in the log; `null` is sent as `null`. */
    load(userId: string): unknown | Promise<unknown>
    /** `preferences` is always an object, as `JSON.parse` reads what the client sent. */
    save(userId: string, preferences: Record<string, unknown>): unknown | Promise<unknown>
  } | undefined
  /** '*': any; 'same-host': Origin's host must equal Host; a list: exact origins as
   *  browsers send them (another spelling is `ERR_INVALID_OPTION`). Absent Origin (not a browser) passes. @default '*' */
  allowedOrigins?: '*' | 'same-host' | string[] | undefined
  /** What happens to a connection above MAX_CONNECTIONS_PER_USER: it is refused, or the user's oldest connection is closed with 4009
   *  after the new one has passed every other check. @default 'refuse' */
  connectionLimit?: 'refuse' | 'close-oldest' | undefined
  /** 'close': a refused handshake opens a connection that is closed at once, with a code that a browser can read: 4401 unauthorised,
   *  4403 forbidden origin, 4409 limit of the user's connections, 4503 not available. A request that is no valid upgrade is answered with
   *  a status. Such connections are not counted. @default 'status' */
  refusals?: 'status' | 'close' | undefined
  /** How many connections the service may have, on all its ports; further ones are answered with 503. `server.maxConnections` of Node does not count sockets that the
   *  service has taken over. @default unlimited */
  maxConnections?: number | undefined
  /** Own port: how long a client may take to send its request, TLS handshake included. Down to 1 s while many handshakes are pending. @default 10000 */
  handshakeTimeout?: number | undefined
  /** permessage-deflate. @default true */
  compression?: boolean | undefined
  /** How messages that wait together are sent: in one {"type":"batch"} message, or each in a frame of its own. @default 'envelope' */
  batching?: 'envelope' | 'frames' | undefined
  /** Bytes of publishes one shard may have waiting; beyond it a publish is refused, counted, and reported by an 'error' event
   *  (ERR_OVERLOADED), at most once a second. @default 67108864 */
  maxQueueBytes?: number | undefined
  /** Bills one connection may follow. One more is answered with {"type":"error","message":"Subscription limit reached"}, or
   *  listed in `failed` of a batch. @default 1000 */
  maxSubscriptions?: number | undefined
  /** What counts as memory pressure: the container's limit, the machine's memory, V8's heap. The machine's counts only while
   *  this process holds at least a quarter of what is in use. @default all three true */
  memorySources?: { container?: boolean | undefined; machine?: boolean | undefined; heap?: boolean | undefined } | undefined
  /** Unwritten bytes one connection may hold. @default 1048576 */
  maxBackpressure?: number | undefined
  /** What happens to a connection above it: closed with 1013, or its oldest / the newest payloads dropped and counted. @default 'close' */
  slowConsumer?: 'close' | 'drop-oldest' | 'drop-newest' | undefined
  /** How many proxies to trust for X-Forwarded-For, or their CIDR ranges. @default 0 */
  trustProxy?: number | string[] | undefined
  /** Messages per second and connection, control frames included; 0: no limit. A message above it gets an error reply and is
   *  not processed; after another burst of such messages the connection is closed with 1008. @default 0 */
  messageRate?: number | undefined
  /** How many messages may arrive at once. @default 2 × messageRate */
  messageBurst?: number | undefined
  /** How long a positive look-up of the same user with the same claims is reused. @default 0 */
  lookupCacheTtl?: number | undefined
  /** Shard threads. @default max(1, cores − 1) */
  threads?: number | undefined
  /** 'auto': the service takes the sockets over from Node where it can (not with TLS, not on Windows); 'bridge': Node always reads and
   *  writes the sockets. @default 'auto' */
  transport?: 'auto' | 'bridge' | undefined
  /** Settings that are fixed while the service runs. @default BASE_CONFIG */
  base?: { [Key in keyof BaseConfig]?: BaseConfig[Key] | undefined } | undefined
  /** Initial values of the settings that `runtimeConfig` can change. */
  runtime?: { [Key in keyof RuntimeConfigValues]?: RuntimeConfigValues[Key] | undefined } | undefined
  /** console-, pino- or winston-like. Methods that throw or reject are ignored. @default none. The environment variable
   *  CARILLON_LOG=info also writes the log to stderr. */
  logger?: Logger | undefined
  /** How the logger's methods take their arguments: `(message, context)` as console and winston, `(context, message)` as pino and
   *  bunyan, which 'auto' recognises. @default 'auto' */
  loggerStyle?: 'auto' | 'message-first' | 'context-first' | undefined
}

export interface ListenOptions {
  /** 0: any free port; the promise resolves with it. */
  port: number
  /** A name or an address. @default all addresses of the machine */
  host?: string | undefined
  /** Certificate chain and private key in PEM. Without it the port speaks plain `ws:`. */
  tls?: { cert: string | Buffer; key: string | Buffer } | undefined
}

export interface Logger {
  debug?(message: string, context?: Record<string, unknown>): void
  info?(message: string, context?: Record<string, unknown>): void
  warn?(message: string, context?: Record<string, unknown>): void
  error?(message: string, context?: Record<string, unknown>): void
}

export interface BaseConfig {
  /** Milliseconds between two pings. A connection that has not answered by the next ping is closed. @default 30000 */
  HEARTBEAT_INTERVAL: number
  /** Milliseconds between two checks for the `health` event. @default 60000 */
  HEALTH_CHECK_INTERVAL: number
  /** Milliseconds for which a client may read nothing of what it was sent. @default 60000 */
  STALE_CONNECTION_THRESHOLD: number
  /** Expected connections: for warnings, not a limit. @default 10000 */
  CONNECTION_POOL_SIZE: number
  /** The queue length that warnings and health checks are relative to: not a limit. @default 1000 */
  MAX_QUEUE_SIZE: number
  /** Bytes of the largest message of a client. @default 102400 */
  MAX_PAYLOAD: number
  /** How many latencies are averaged. @default 200 */
  MAX_LATENCY_SAMPLES: number
  /** A clean-up forgets updates that are older, in milliseconds. @default 1800000 */
  DEDUPE_CACHE_CLEANUP_AGE: number
  /** Not used, accepted for compatibility. @default 3 */
  MAX_RECONNECT_ATTEMPTS: number
  /** Milliseconds, sent to clients at shutdown. @default 1000 */
  RECONNECT_DELAY: number
  /** Percent of memory at which degradation begins. @default 85 */
  HIGH_MEMORY_THRESHOLD: number
  /** Percent of memory at which new connections are refused. @default 95 */
  CRITICAL_MEMORY_THRESHOLD: number
  /** Seconds of history in `getMetrics()`. @default 100 */
  PERFORMANCE_HISTORY_MAX_SIZE: number
  /** Milliseconds for which `shutdown()` waits for clients. @default 5000 */
  SHUTDOWN_GRACE_PERIOD: number
}

export interface RuntimeConfigValues {
  /** Messages that leave together. @default 10 */
  MESSAGE_BATCH_SIZE: number
  /** Milliseconds for which the first of them waits; 0: no message waits. @default 50 */
  MESSAGE_BATCH_DELAY: number
  /** Bytes from which a message is compressed. @default 1024 */
  COMPRESSION_THRESHOLD: number
  /** Updates that are remembered. @default 5000 */
  DEDUPE_CACHE_SIZE: number
  /** Milliseconds in which a repeated update is dropped. @default 5000 */
  DEDUPE_WINDOW: number
  /** Connections of one user. A change affects new connections only. @default 5 */
  MAX_CONNECTIONS_PER_USER: number
  /** Milliseconds between two clean-ups. @default 180000 */
  MEMORY_CLEANUP_INTERVAL: number
}

export type UpdateType = 'status_change' | 'new_comment' | 'amendment' | 'voting_scheduled'

/** A published value may have any type with these members. Further members are sent as well. */
export interface BillUpdate { type: UpdateType | (string & {}); data: object; timestamp: Date | string | number }
export interface UserNotification { type: string; title: string; message: string; data?: object | undefined }
export interface BroadcastMessage { type: string; data: object; timestamp?: Date | string | number | undefined }

export interface MemoryLeakData {
  severity: 'low' | 'medium' | 'high' | 'critical'
  recommendations: string[]
  /** Percent per minute, and bytes. */
  analysis: { growthRate: number; retainedIncrease: number }
}

export interface ServiceEvents {
  connection(info: { connectionId: string; userId: string; remoteAddress: string }): void
  /** The connection has ended. Emitted up to 5 s after the service decided to close it; the getters exclude it from that moment on.
   *  `clean`: both sides have sent a close frame (RFC 6455 §7.1.4); `code` and `reason` are those of the first one, 1006 without. */
  disconnection(info: { connectionId: string; userId: string; code: number; reason: string; clean: boolean }): void
  subscription(info: { connectionId: string; userId: string; billId: number; subscribed: boolean }): void
  slowConsumer(info: { connectionId: string; userId: string; pendingBytes: number; action: 'close' | 'drop-oldest' | 'drop-newest' }): void
  degradation(info: { level: DegradationLevel; previous: DegradationLevel; pressure: number }): void
  memoryLeak(info: MemoryLeakData): void
  /** The status has changed; looked at every HEALTH_CHECK_INTERVAL, but at most once a second. */
  health(status: HealthStatus): void
  stateChange(info: { state: 'stopped' | 'running' | 'stopping' }): void
  error(error: Error & { code: string }): void
}
export type DegradationLevel = 'normal' | 'light' | 'moderate' | 'severe' | 'critical'

/** What `forceMemoryAnalysis()` returns. Sizes read `"0.30 KB"` or `"12.34 MB"`. */
export interface MemoryAnalysis {
  /** ISO 8601, UTC. */
  timestamp: string
  connections: Record<string, number | string>
  subscriptions: Record<string, number | string>
  messages: Record<string, number | string>
  performance: Record<string, number | string>
  memory: Record<string, string>
  warnings: string[]
}

/** Settings that can be changed while the service runs. A change takes effect at once, for this service alone. */
export interface RuntimeConfig {
  /** The value in effect. */
  get(key: keyof RuntimeConfigValues): number
  /**
   * Changes a value.
   * @throws {RangeError} code `ERR_OUT_OF_RANGE` outside the documented bounds
   */
  set(key: keyof RuntimeConfigValues, value: number): void
  /** Back to the values the service was constructed with. */
  reset(): void
  /** All values in effect. */
  toObject(): RuntimeConfigValues
}

/** A WebSocket service whose connections live in Rust threads. */
export declare class WebSocketService {
  /**
   * Adds a listener after the others. An event may have any number. A listener that throws or rejects is logged and does not affect
   * the others. It runs in the async context (`AsyncLocalStorage`) in which it was added, with the service as `this`.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: there is no such event, or the listener is no function
   */
  on<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** The same as `on`. */
  addListener<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** Adds a listener before the others. */
  prependListener<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** Adds a listener that is called once. */
  once<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** Adds a listener before the others that is called once. */
  prependOnceListener<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /**
   * Removes a listener, the newest if it was added several times. It is not called any more, not even for an event that is being
   * delivered.
   */
  off<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** The same as `off`. */
  removeListener<E extends keyof ServiceEvents>(event: E, listener: ServiceEvents[E]): this
  /** The listeners of an event, in the order of their calls. */
  listeners<E extends keyof ServiceEvents>(event: E): Array<ServiceEvents[E]>
  /** The same as `listeners`: those added by `once` have no wrapper. */
  rawListeners<E extends keyof ServiceEvents>(event: E): Array<ServiceEvents[E]>
  /** Removes all listeners of an event, or of all events. */
  removeAllListeners(event?: keyof ServiceEvents): this
  /** How many listeners an event has, or how often it has this one. */
  listenerCount<E extends keyof ServiceEvents>(event: E, listener?: ServiceEvents[E]): number
  /** Calls the listeners of an event as the service does, with the first argument. Returns whether there are any. */
  emit<E extends keyof ServiceEvents>(event: E, ...args: Parameters<ServiceEvents[E]>): boolean
  /** 0: there is no limit of listeners. */
  getMaxListeners(): number
  /** Does nothing: there is no limit of listeners, and no warning about many. For code that expects an `EventEmitter`. */
  setMaxListeners(count: number): this
  /** The events that have listeners. */
  eventNames(): Array<keyof ServiceEvents>
  getStats(): ServiceStats
  getHealthStatus(): HealthStatus
  getMetrics(): ServiceMetrics
  /** Sizes of everything the service keeps, and the memory of the process. */
  forceMemoryAnalysis(): MemoryAnalysis
  /** Prometheus text exposition format 0.0.4. */
  metricsText(): string
  /**
   * The slowest consumers, the largest topics and the shards, for diagnosis. The state is up to about a second old. `top`: the maximum
   * number of entries in each list, 0 to 100. @default 10
   */
  inspect(options?: { top?: number | undefined }): Inspection
  /**
   * The bills that any open connection of the user follows, in the order they were first followed.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
   */
  getUserSubscriptions(userId: string): Array<number>
  /**
   * Whether the user has an open connection.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
   */
  isUserConnected(userId: string): boolean
  /**
   * How many open connections the user has.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
   */
  getConnectionCount(userId: string): number
  /** The users with an open connection, in the order of their oldest one. */
  getAllConnectedUsers(): Array<string>
  /**
   * The users with a connection that follows the bill, each once.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a number nor absent
   */
  getBillSubscribers(billId: number): Array<string>
  get state(): 'stopped' | 'running' | 'stopping'
  /** @throws {TypeError} code `ERR_INVALID_OPTION`: an option is unknown, of the wrong kind or out of range */
  constructor(options?: WebSocketServiceOptions)
  /**
   * Attaches to a Node server, before or after it listens: of `http`, of `https`, or of `http2` with `allowHTTP1`. A
   * second call while attached is ignored and logged. After `shutdown()` has settled, or the `stateChange` event with
   * `'stopped'`, the service can be initialized again.
   *
   * Connections that stay with Node (TLS, Windows, `transport: 'bridge'`) remain connections of the server: its `close()` waits
   * until `shutdown()` has ended them.
   * @throws {Error} code `ERR_NO_JWT_SECRET`: there is neither a key among the options nor JWT_SECRET
   * @throws {Error} code `ERR_ALREADY_RUNNING`: the service is stopping
   */
  initialize(server: HttpServer | HttpsServer | Http2SecureServer): void
  /**
   * Opens a port of the service's own, beside an attached server or instead of one; `tls` makes it `wss:`. Resolves
   * when it accepts connections. The port answers `GET /health`, and keeps the process alive until `shutdown()`.
   * JWT_SECRET is read here and when an attached server hands a connection over. One port at a time.
   *
   * Rejects with the code
   * - `ERR_ALREADY_RUNNING`: there is a port already, or the service is stopping
   * - `ERR_INVALID_ARGUMENT`: an option is missing or wrong; the message names it
   * - `ERR_NO_JWT_SECRET`: there is neither a key among the options nor JWT_SECRET
   * - `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `ENOTFOUND`: as `net.Server` does
   * - `ERR_LISTEN_FAILED`: any other failure, such as a `shutdown()` before the port was open
   */
  listen(options: ListenOptions): Promise<ListenAddress>
  /**
   * Closes all connections, stops listening and detaches from the server. Every call during a shutdown returns the same promise. A
   * peer cannot make it reject.
   */
  shutdown(): Promise<void>
  /** Empties caches, buffers and queues; connections and subscriptions stay. */
  cleanup(): void
  /**
   * Sends an update to every connection that follows the bill. The same update for the same bill within
   * `DEDUPE_WINDOW` is counted and dropped.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
   */
  broadcastBillUpdate<Update extends BillUpdate>(billId: number, update: Update): void
  /**
   * Sends a notification to every open connection of the user; without any it is dropped.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
   */
  sendUserNotification<Notification extends UserNotification>(userId: string, notification: Notification): void
  /**
   * Sends a message to every open connection.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
   */
  broadcastToAll<Message extends BroadcastMessage>(message: Message): void
  /**
   * Sets the options while the service is stopped: for the ready-made instance.
   * @throws {Error} code `ERR_ALREADY_RUNNING` while the service runs
   */
  configure(options: WebSocketServiceOptions): void
  /** Settings that can be changed while the service runs. */
  get runtimeConfig(): RuntimeConfig
  /**
   * Reports memory pressure that the application has measured. At or above the threshold it degrades the service at once, at least
   * to `light`, for a minute or until a report below the threshold. The service's own measurements count as well.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a number is missing or not from 0 to 1
   */
  reportMemoryPressure(data: { pressure: number; threshold: number }): void
  /**
   * Reports a memory leak that the application has found: clients are warned, `memoryLeak` is emitted, and caches are halved; at
   * severity `critical` buffers and queues are emptied as well.
   * @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a member is missing or of the wrong kind
   */
  reportMemoryLeak(data: MemoryLeakData): void
}

/** The default values of the option `base`. */
export declare const BASE_CONFIG: Readonly<BaseConfig>

export interface ConnectionMetrics {
  active: number
  peak: number
  total: number
  reconnections: number
}

/** A connection that has unwritten bytes, or has lost payloads. */
export interface ConsumerInspection {
  connectionId: string
  userId: string
  pendingBytes: number
  /** Payloads dropped by the slow-consumer policy since the connection began. */
  dropped: number
}

/** What `getHealthStatus()` returns. */
export interface HealthStatus {
  /** ISO 8601, UTC. */
  timestamp: string
  /** Seconds. */
  uptime: number
  /** Seconds. */
  timeSinceLastActivity: number
  /** `false` if `status` is `unhealthy`. An idle service is healthy. */
  isHealthy: boolean
  status: 'healthy' | 'degraded' | 'unhealthy'
  stats: ServiceStats
  memoryUsage: MemoryUsage
  /** Percent of V8's heap that is in use. */
  heapUsedPercent: number
  degradationLevel: DegradationLevel
  /** Absent while the service is stopped, and where nothing can be measured. */
  memoryPressure?: MemoryPressure
  warnings: Array<string>
}

/** What `inspect()` returns. */
export interface Inspection {
  shards: Array<ShardInspection>
  /** Slowest first. */
  slowestConsumers: Array<ConsumerInspection>
  /** Largest first. */
  largestTopics: Array<TopicInspection>
  degradationLevel: DegradationLevel
}

/** Where `listen()` listens. */
export interface ListenAddress {
  port: number
  /** The address, even if a name was given. */
  host: string
}

/** Memory pressure: how much of the available memory is in use. */
export interface MemoryPressure {
  /** 0 to 1, the highest of what is measured. */
  ratio: number
  /** What it was measured on: the control group, V8's heap, the machine's memory, or the application's own report. */
  source: 'container' | 'heap' | 'machine' | 'report'
}

/** Memory of the Node process as it reports it, such as `"12.34 MB"`. */
export interface MemoryUsage {
  heapUsed: string
  heapTotal: string
  external: string
  rss: string
}

export interface MessageMetrics {
  total: number
  dropped: number
  duplicates: number
  broadcasts: number
}

/** Latencies in milliseconds, from clients' timestamps. */
export interface PerformanceMetrics {
  averageLatency: number
  p50Latency: number
  p95Latency: number
  p99Latency: number
  queueDepth: number
  queueOverflows: number
  messageSuccessRate: number
}

/** One second of the history. */
export interface PerformanceSample {
  /** Milliseconds since 1970. */
  timestamp: number
  connections: number
  /** Inbound. */
  messagesPerSecond: number
  /** Payloads accepted for one connection each. */
  deliveriesPerSecond: number
  /** Milliseconds, as in `getStats()`. */
  averageLatency: number
  /** Unwritten bytes of all connections. */
  pendingBytes: number
  /** Bytes of the process in physical memory; 0 where the system does not report it. */
  residentBytes: number
  /** 0 to 1, as in `getHealthStatus()`. */
  memoryPressure: number
}

/** What `getMetrics()` returns. */
export interface ServiceMetrics {
  connections: ConnectionMetrics
  messages: MessageMetrics
  performance: PerformanceMetrics
  subscriptions: SubscriptionMetrics
  /** The last PERFORMANCE_HISTORY_MAX_SIZE seconds of the run, oldest first. */
  history: Array<PerformanceSample>
}

/** What `getStats()` returns. Times are milliseconds since 1970 unless said otherwise. */
export interface ServiceStats {
  /** Connections accepted since the service object was made. */
  totalConnections: number
  /** Connections open now. */
  activeConnections: number
  /** Inbound messages, invalid ones included. */
  totalMessages: number
  /** Messages to all, and bill updates that had a subscriber. */
  totalBroadcasts: number
  /** Payloads that were not delivered, whatever the reason. */
  droppedMessages: number
  /** Bill updates suppressed as repeats. */
  duplicateMessages: number
  /** Publishes refused because a queue was full. */
  queueOverflows: number
  /** Users who connected again within 60 s of losing their last connection. */
  reconnections: number
  /** When the service object was made. */
  startTime: number
  /** When a client last connected or sent something, or a broadcast had a receiver. */
  lastActivity: number
  peakConnections: number
  /** Whole seconds. */
  uptime: number
  /** Milliseconds from a client's `timestamp` to its arrival, averaged over the newest samples; 0 without any. */
  averageLatency: number
  /** Pairs of a bill and a user that follows it. */
  totalSubscriptions: number
  billsWithSubscribers: number
  /** Users with an open connection. */
  uniqueUsers: number
  /** Publishes waiting for their shard. */
  queueDepth: number
  /** 0 without users. */
  averageConnectionsPerUser: number
  /** Users with an open connection. */
  connectionPoolSize: number
  dedupeCacheSize: number
  /** 1 − dropped / total messages; 1 without messages. */
  messageSuccessRate: number
}

export interface ShardInspection {
  id: number
  /** Closing ones included. */
  connections: number
  topics: number
  /** Publishes that wait for the shard. */
  queuedOperations: number
  /** Unwritten bytes of its connections. */
  pendingBytes: number
}

export interface SubscriptionMetrics {
  totalBills: number
  totalSubscriptions: number
  usersWithSubscriptions: number
}

export interface TopicInspection {
  billId: number
  /** Connections that follow it. */
  subscribers: number
}

/** Ready-made instance, configured from the environment (JWT_SECRET) or through `configure()`. */
export declare const webSocketService: WebSocketService
