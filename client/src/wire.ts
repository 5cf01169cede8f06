// Every message that travels between a client and a Carillon service, as TypeScript types. Types only: nothing of this file
// reaches a bundle. Times are ISO 8601 strings in UTC with milliseconds unless said otherwise.

/** A bill by its number, or a channel by its name. */
export type Topic = number | string

/** Names a publication. Opaque: store the newest one of each topic and send it back as `since`. */
export type Position = string

/** Why continuity of a topic was lost: publications may have been missed. */
export type GapReason =
  /** The history no longer reaches back to the position. */
  | 'expired'
  /** The history began anew, for example because the service was restarted. */
  | 'reset'
  /** The position belongs to a history that was replaced by another one. */
  | 'fork'
  /** More publications were missed than are replayed at once. */
  | 'too_many'
  /** The history could not be read in time. */
  | 'unavailable'
  /** This client read too slowly, and messages were dropped for it. */
  | 'slow'
  /** The service did not understand the position. */
  | 'malformed'
  /** The service keeps no history of the topic, or does not know positions at all. */
  | 'unsupported'

/** Codes of error replies. Errors of older services carry none. */
export type ErrorCode = 'failed' | 'forbidden' | 'too_large' | 'unavailable'

interface Request<Type extends string, Data = undefined> {
  type: Type
  data: Data
  /** Echoed by `ack`, replies and errors. */
  messageId?: string
}

type BareRequest<Type extends string> = Omit<Request<Type>, 'data'>

/** What the service understands. Types that the application registered with `onMessage` come on top of these. */
export type ClientMessage =
  | Request<'auth', { token: string }>
  | Request<'subscribe', ({ bill_id: number } | { channel: string }) & { since?: Position | null }>
  | Request<'unsubscribe', { bill_id: number } | { channel: string }>
  | Request<'batch_subscribe', { bill_ids?: number[]; channels?: string[]; since?: Record<string, Position | null> }>
  | Request<'batch_unsubscribe', { bill_ids: number[] }>
  | Request<'publish', { channel: string; data: unknown }>
  | Request<'presence', { channel: string }>
  | Request<'update_preferences', { preferences: Record<string, unknown> }>
  | BareRequest<'get_preferences'>
  | BareRequest<'ping'>
  | BareRequest<'pong'>

/** The greeting, once the connection is authenticated. */
export interface Connected {
  type: 'connected'
  message: string
  data: {
    user_id: string
    connectionId: string
    timestamp: string
    config: { heartbeatInterval: number; maxMessageSize: number; supportsBatching: boolean; compressionEnabled: boolean }
  }
}

export interface BillUpdate {
  type: 'bill_update'
  bill_id: number
  update: { type: string; data: unknown; timestamp: string; [member: string]: unknown }
  timestamp: string
  pos?: Position
}

export interface ChannelMessage {
  type: 'message'
  channel: string
  data: unknown
  timestamp: string
  /** `data` is the base64 text of bytes. */
  encoding?: 'base64'
  pos?: Position
}

export interface BatchSubscribed {
  type: 'batch_subscribed'
  data: {
    subscribed: Topic[]
    failed: (number | { channel: string; code: ErrorCode })[]
    message: string
    /** Topics whose continuity is proven: nothing was missed. */
    recovered?: Topic[]
    /** Topics whose continuity is lost, with the reason. */
    lost?: Record<string, GapReason>
    /** Where each topic stands now. */
    pos?: Record<string, Position>
    /** Milliseconds to wait before reloading what was lost, so that a crowd does not reload at once. */
    reload_in?: number
  }
  messageId?: string
}

/** Where one subscription stands after `subscribe` with `since`. */
interface Resumed {
  recovered?: boolean
  reason?: GapReason
  reload_in?: number
  pos?: Position
}

export interface Gap {
  type: 'gap'
  data: ({ bill_id: number } | { channel: string }) & { reason: GapReason; reload_in?: number; pos?: Position }
}

export interface Presence {
  type: 'presence'
  /** Above a bound the service answers with `count` alone. */
  data: { channel: string; users?: { user_id: string; connections: number }[]; count?: number; complete: boolean }
  messageId?: string
}

export interface PresenceChange {
  type: 'presence_join' | 'presence_leave'
  data: { channel: string; user_id: string }
}

export interface ErrorReply {
  type: 'error'
  message: string
  code?: ErrorCode
  data?: { bill_id?: number; channel?: string }
  messageId?: string
}

export interface Notification {
  type: 'notification'
  notification: { type: string; title: string; message: string; data?: unknown; [member: string]: unknown }
  timestamp: string
  priority: 'immediate'
}

export interface ServerShutdown {
  type: 'server_shutdown'
  data: { message: string; reconnectDelay: number }
  timestamp: string
  priority: 'immediate'
}

/** What a service sends by itself or as a reply. `broadcastToAll` and `send` may carry further types of the application. */
export type ServerMessage =
  | Connected
  | BillUpdate
  | ChannelMessage
  | BatchSubscribed
  | Gap
  | Presence
  | PresenceChange
  | ErrorReply
  | Notification
  | ServerShutdown
  | { type: 'ack'; messageId: unknown }
  | { type: 'auth_success'; data: { user_id: string; expiresAt: string | null } }
  | { type: 'batch'; messages: ServerMessage[] }
  | { type: 'batch_unsubscribed'; data: { unsubscribed: unknown[]; message: string } }
  | { type: 'pong'; priority: 'immediate' }
  | { type: 'preferences'; data: Record<string, unknown>; timestamp: string }
  | { type: 'preferences_updated'; data: Record<string, unknown>; message: string; timestamp: string }
  | { type: 'reply'; messageId: string; data: unknown }
  | { type: 'subscribed' | 'unsubscribed'; data: { bill_id?: number; channel?: string; message?: string } & Resumed }
  | { type: 'system_status'; data: { degradationLevel: number; message: string }; timestamp: string; priority: 'immediate' }
  | { type: 'system_warning'; data: { type: string; severity: string; message: string }; timestamp: string; priority: 'immediate' }
  | { type: 'token_expiring'; data: { expiresAt: string } }
