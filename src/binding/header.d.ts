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
  /** Does this user exist? The result is resolved as `await` does; falsy → 401. Without the hook every valid token is let in.
   *  It runs in the async context (`AsyncLocalStorage`) in which the options were given. A rejection is a failure: it is tried
   *  again up to twice within `lookupTimeout`, then answered with 401. See `circuitBreaker` for a hook that keeps failing. */
  lookupUser?: ((userId: string, claims: Record<string, unknown>) => unknown | Promise<unknown>) | undefined
  /** A look-up that takes longer counts as failed. @default 5000 */
  lookupTimeout?: number | undefined
  /** Leave a hook alone for 5 to 60 s after 5 failures in a row, or when more than half of the last 20 calls failed; handshakes
   *  that need it get 503 with Retry-After. Time-outs count each, rejections once per user. @default true */
  circuitBreaker?: boolean | undefined
  /** Accept connections without a token and wait this long for {"type":"auth"}. 0: refuse them with 401. @default 0 */
  authTimeout?: number | undefined
  /** Connections that may wait for their token at the same time, with `authTimeout`; beyond it 503. After 3 refused `auth` messages a
   *  connection is closed with 1008. @default 1000 */
  maxAnonymous?: number | undefined
  /** Load and store preferences; without them everybody has the same constants. Each fails, rests and recovers as `lookupUser`
   *  does; `save` is never tried again. */
  preferences?: {
    /** What `JSON.stringify` makes of the value is sent. A value without JSON form (`undefined`, a function, a cycle) is an error to the client
     *  and a line in the log; `null` is sent as `null`. */
    load(userId: string): unknown | Promise<unknown>
    /** `preferences` is always an object, as `JSON.parse` reads what the client sent. */
    save(userId: string, preferences: Record<string, unknown>): unknown | Promise<unknown>
  } | undefined
  /** '*': any (as the original); 'same-host': Origin's host must equal Host; a list: exact origins as
   *  browsers send them (another spelling is `ERR_INVALID_OPTION`). Absent Origin (not a browser) passes. @default '*' */
  allowedOrigins?: '*' | 'same-host' | string[] | undefined
  /** What the connection above MAX_CONNECTIONS_PER_USER does: it is refused, or the user's oldest is closed with 4009 once the new one
   *  has passed every other check. @default 'refuse' */
  connectionLimit?: 'refuse' | 'close-oldest' | undefined
  /** 'close': a handshake that is refused opens and is closed at once, so that a browser sees why: 4401 unauthorised, 4403 forbidden
   *  origin, 4409 limit of the user's connections, 4503 not now. Requests that ask for no proper upgrade get their status all the
   *  same. Such a connection counts as none. @default 'status' */
  refusals?: 'status' | 'close' | undefined
  /** Connections of this service, however they come; beyond it 503. `server.maxConnections` of Node does not count sockets that the
   *  service has taken over. @default unlimited */
  maxConnections?: number | undefined
  /** Own port: time to send the request, TLS handshake included. It shrinks to 1 s while pending handshakes are many. @default 10000 */
  handshakeTimeout?: number | undefined
  /** permessage-deflate. @default true */
  compression?: boolean | undefined
  /** How messages that wait together are sent: in one {"type":"batch"} message, or each in a frame of its own. @default 'envelope' */
  batching?: 'envelope' | 'frames' | undefined
  /** Bytes of publishes one shard may have waiting; beyond it a publish is refused, counted, and told by an 'error' event
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
  /** Messages per second and connection, control frames included; 0: no limit. What is over it gets an error reply and is
   *  not processed; who goes on for another burst is closed with 1008. @default 0 */
  messageRate?: number | undefined
  /** How many messages may come at once. @default 2 × messageRate */
  messageBurst?: number | undefined
  /** Reuse a positive look-up of the same user with the same claims this long. @default 0 */
  lookupCacheTtl?: number | undefined
  /** Shard threads. @default max(1, cores − 1) */
  threads?: number | undefined
  /** 'auto' takes the socket where it can; 'bridge' makes Node pump the bytes always. @default 'auto' */
  transport?: 'auto' | 'bridge' | undefined
  /** The design's constants, in its spelling. */
  base?: { [Key in keyof BaseConfig]?: BaseConfig[Key] | undefined } | undefined
  runtime?: { [Key in keyof RuntimeConfigValues]?: RuntimeConfigValues[Key] | undefined } | undefined
  /** console-, pino- or winston-like. Methods that throw or reject are ignored. @default none; the crate's tracing events are also
   *  readable with CARILLON_LOG=info */
  logger?: Logger | undefined
  /** How the logger's methods take their arguments: `(message, context)` as console and winston, `(context, message)` as pino and
   *  bunyan, which 'auto' recognises. @default 'auto' */
  loggerStyle?: 'auto' | 'message-first' | 'context-first' | undefined
}

export interface ListenOptions {
  /** 0: any free one, which the promise tells. */
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
  HEARTBEAT_INTERVAL: number           // 30000
  HEALTH_CHECK_INTERVAL: number        // 60000
  STALE_CONNECTION_THRESHOLD: number   // 60000
  CONNECTION_POOL_SIZE: number         // 10000; expected size, warnings only; 0 < n
  MAX_QUEUE_SIZE: number               // 1000; what the queue warnings and health checks are relative to
  MAX_PAYLOAD: number                  // 102400
  MAX_LATENCY_SAMPLES: number          // 200
  DEDUPE_CACHE_CLEANUP_AGE: number     // 1800000
  MAX_RECONNECT_ATTEMPTS: number       // 3; the original never used it, kept so that configurations load
  RECONNECT_DELAY: number              // 1000, told to clients at shutdown
  HIGH_MEMORY_THRESHOLD: number        // 85 percent
  CRITICAL_MEMORY_THRESHOLD: number    // 95 percent
  PERFORMANCE_HISTORY_MAX_SIZE: number // 100
  SHUTDOWN_GRACE_PERIOD: number        // 5000
}

export interface RuntimeConfigValues {
  MESSAGE_BATCH_SIZE: number           // 10
  MESSAGE_BATCH_DELAY: number          // 50
  COMPRESSION_THRESHOLD: number        // 1024
  DEDUPE_CACHE_SIZE: number            // 5000
  DEDUPE_WINDOW: number                // 5000
  MAX_CONNECTIONS_PER_USER: number     // 5
  MEMORY_CLEANUP_INTERVAL: number      // 180000
}

export type UpdateType = 'status_change' | 'new_comment' | 'amendment' | 'voting_scheduled'

/** What is published may be a value of any type that has these members. Further members are sent along, in every publish. */
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
  /** The connection has ended, up to 5 s after its end was decided. The getters forget it before its close frame is written.
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

