/* eslint-disable */
/* The types that no Rust item declares: options, callbacks, what is published. Times are milliseconds, sizes bytes. */

import type { Server as HttpServer } from 'node:http'
import type { Server as HttpsServer } from 'node:https'

export interface WebSocketServiceOptions {
  /** @default '/ws' */
  path?: string
  /** HS256/384/512 secret. @default process.env.JWT_SECRET */
  jwtSecret?: string
  /** PEM public key for RS*, PS*, ES*, EdDSA; excludes jwtSecret. */
  jwtPublicKey?: string
  /** @default ['HS256','HS384','HS512'] with a secret; required with a public key */
  jwtAlgorithms?: string[]
  /** @default 'user_id' */
  jwtUserIdClaim?: string
  jwtIssuer?: string
  jwtAudience?: string
  /** Does this user exist? Falsy → 401. Without it every valid token is let in. A rejection is a failure: it is tried again
   *  up to twice within `lookupTimeout`, then answered with 401. After 5 failures in a row, or more than half of 20, the hook
   *  is left alone for 5 to 60 s, and who would have needed it gets 503 with Retry-After. */
  lookupUser?: (userId: string, claims: Record<string, unknown>) => unknown | Promise<unknown>
  /** A look-up that takes longer counts as failed. @default 5000 */
  lookupTimeout?: number
  /** Accept connections without a token and wait this long for {"type":"auth"}. 0: refuse them with 401. @default 0 */
  authTimeout?: number
  /** Load and store preferences; without them everybody has the same constants. Each fails, rests and recovers as `lookupUser`
   *  does; `save` is never tried again. */
  preferences?: {
    load(userId: string): unknown | Promise<unknown>
    save(userId: string, preferences: Record<string, unknown>): unknown | Promise<unknown>
  }
  /** '*': any (as the original); 'same-host': Origin's host must equal Host; a list: exact origins. Absent Origin (not a browser) passes. @default '*' */
  allowedOrigins?: '*' | 'same-host' | string[]
  /** permessage-deflate. @default true */
  compression?: boolean
  /** How messages that wait together are sent: in one {"type":"batch"} message, or each in a frame of its own. @default 'envelope' */
  batching?: 'envelope' | 'frames'
  /** Bytes of publishes one shard may have waiting; beyond it a publish is refused, counted, and told by an 'error' event
   *  (ERR_OVERLOADED), at most once a second. @default 67108864 */
  maxQueueBytes?: number
  /** Bills one connection may follow. One more is answered with {"type":"error","message":"Subscription limit reached"}, or
   *  listed in `failed` of a batch. @default 1000 */
  maxSubscriptions?: number
  /** Unwritten bytes one connection may hold. @default 1048576 */
  maxBackpressure?: number
  /** What happens to a connection above it: closed with 1013, or its oldest / the newest payloads dropped and counted. @default 'close' */
  slowConsumer?: 'close' | 'drop-oldest' | 'drop-newest'
  /** How many proxies to trust for X-Forwarded-For, or their CIDR ranges. @default 0 */
  trustProxy?: number | string[]
  /** Messages per second and connection, control frames included; 0: no limit. What is over it gets an error reply and is
   *  not processed; who goes on for another burst is closed with 1008. @default 0 */
  messageRate?: number
  /** How many messages may come at once. @default 2 × messageRate */
  messageBurst?: number
  /** Reuse a positive look-up this long. @default 0 */
  lookupCacheTtl?: number
  /** Shard threads. @default max(1, cores − 1) */
  threads?: number
  /** 'auto' takes the socket where it can; 'bridge' makes Node pump the bytes always. @default 'auto' */
  transport?: 'auto' | 'bridge'
  /** The design's constants, in its spelling. */
  base?: Partial<BaseConfig>
  runtime?: Partial<RuntimeConfigValues>
  /** console-, pino- or winston-like. @default none; the crate's tracing events are also readable with CARILLON_LOG=info */
  logger?: Logger
}

export interface ListenOptions {
  /** 0: any free one, which the promise tells. */
  port: number
  /** A name or an address. @default all addresses of the machine */
  host?: string
  /** Certificate chain and private key in PEM. Without it the port speaks plain `ws:`. */
  tls?: { cert: string | Buffer; key: string | Buffer }
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
export interface BillUpdate { type: UpdateType | (string & {}); data: Record<string, unknown>; timestamp: Date | string | number }
export interface UserNotification { type: string; title: string; message: string; data?: Record<string, unknown> }
export interface BroadcastMessage { type: string; data: Record<string, unknown>; timestamp?: Date | string | number }
export interface MemoryLeakData {
  severity: 'low' | 'medium' | 'high' | 'critical'
  recommendations: string[]
  /** Percent per minute, and bytes. */
  analysis: { growthRate: number; retainedIncrease: number }
}

export interface ServiceEvents {
  connection(info: { connectionId: string; userId: string; remoteAddress: string }): void
  disconnection(info: { connectionId: string; userId: string; code: number; reason: string }): void
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

