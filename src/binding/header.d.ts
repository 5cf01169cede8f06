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

