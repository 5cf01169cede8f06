// One connection to a service, kept alive: it connects again, subscribes again and resumes where it was.

import { Backoff } from './backoff.js'
import { Emitter } from './emitter.js'
import { CarillonError } from './error.js'
import { Heartbeat } from './heartbeat.js'
import { type AnswerKind, Requests } from './requests.js'
import type { Subscription, SubscriptionHandlers } from './subscription.js'
import { Topics } from './topics.js'
import type { BillUpdate, Notification, Presence, ServerMessage } from './wire.js'

/** `waiting`: for the next attempt to connect. `closed`: by `close()`, or for good by the server. */
export type ClientState = 'connecting' | 'open' | 'waiting' | 'closed'

export interface StateInfo {
  state: ClientState
  /** While `waiting`: milliseconds until the next attempt. */
  delay?: number
  /** After a connection has ended: its close code. 1006 where there was none. */
  code?: number
  reason?: string
}

export interface ClientEvents {
  state: StateInfo
  notification: Notification['notification']
  /** Every message that is not the answer to a request or a publication: greetings, broadcasts, system messages. */
  message: ServerMessage
  /** Something went wrong that the client goes on from, for example `getToken` rejected. */
  error: Error
}

/** What the client uses of a WebSocket: the browser's, Node's (from 22) or that of the package `ws`. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(data: string): void
  close(code?: number, reason?: string): void
}

export interface ClientOptions {
  /** Called before each attempt to connect, and when the token is about to expire. */
  getToken?: () => string | undefined | Promise<string | undefined>
  /** How the token travels: in the URL, or in an `auth` message (the service then needs `authTimeout`). @default 'query' */
  sendToken?: 'query' | 'message'
  /** @default globalThis.WebSocket */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocketLike
  protocols?: string | string[]
  /** Connect as soon as the client is made. @default true */
  connect?: boolean
  /** Milliseconds until an attempt to connect counts as failed. @default 10000 */
  connectTimeout?: number
  /** Milliseconds between pings, and until silence after one means that the connection is dead. @default 25000, 10000 */
  pingInterval?: number
  pongTimeout?: number
  /** Bounds of the random delay before a reconnect: it doubles with each failure. @default 1000, 30000 */
  reconnectDelay?: number
  maxReconnectDelay?: number
  /** Requests that may wait for a connection. @default 100 */
  maxQueued?: number
  /** Milliseconds until a request without an answer fails. @default 10000 */
  requestTimeout?: number
}

/** The server revoked the token, or ended the connection on purpose, or another connection of the user took its place. */
const FINAL_CODES = [4002, 4003, 4009]

/** A connection that was open this long was a success: the next failure starts again with the shortest delay. */
const STABLE_AFTER = 5000

/** How long a connection may be silent when the device has just woken up. */
const PROBE_TIMEOUT = 5000

export class CarillonClient {
  readonly #url: string
  readonly #options: ClientOptions
  readonly #events = new Emitter<ClientEvents>()
  readonly #topics = new Topics((message) => this.#send(JSON.stringify(message)))
  readonly #requests: Requests
  readonly #backoff: Backoff
  readonly #heartbeat: Heartbeat
  #state: ClientState = 'closed'
  #socket: WebSocketLike | undefined
  #openedAt = 0
  /** Counts attempts, so that what belongs to an earlier one is recognised. */
  #attempt = 0
  /** The one thing waited for: the next attempt, or the end of this one. */
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `url`: `ws:` or `wss:`, with the service's path. */
  constructor(url: string, options: ClientOptions = {}) {
    this.#url = url
    this.#options = options
    this.#requests = new Requests(options.maxQueued ?? 100)
    this.#backoff = new Backoff(options.reconnectDelay ?? 1000, options.maxReconnectDelay ?? 30_000)
    this.#heartbeat = new Heartbeat(
      options.pingInterval ?? 25_000,
      options.pongTimeout ?? 10_000,
      () => this.#send('{"type":"ping"}'),
      () => this.#lost(4000, 'Heartbeat timeout'),
    )
    if (options.connect ?? true) this.connect()
  }

  get state(): ClientState {
    return this.#state
  }

  /** Adds a listener and returns the function that removes it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (detail: ClientEvents[Name]) => void): () => void {
    return this.#events.on(name, listener)
  }

  /** Connects, if the client is closed or waits. */
  connect(): void {
    if (this.#state === 'connecting' || this.#state === 'open') return
    const Implementation = this.#options.WebSocket ?? (globalThis as { WebSocket?: ClientOptions['WebSocket'] }).WebSocket
    if (!Implementation) throw new TypeError('There is no global WebSocket: pass one, for example that of the package ws')
    if (this.#state === 'closed') this.#watchEnvironment(true)
    void this.#open(Implementation)
  }

  /** Ends the connection for good, every subscription, and every request with the code `closed`. */
  close(): void {
    this.#finish(1000, 'Client disconnect')
  }

  /** Follows a bill. The server is asked once, however many subscriptions there are. */
  bill<Update = BillUpdate['update']>(id: number, handlers: SubscriptionHandlers<Update> = {}): Subscription<Update> {
    if (!Number.isSafeInteger(id) || id <= 0) throw new TypeError('A bill id is a positive integer')
    return this.#topics.add(id, handlers)
  }

  /** Follows a channel. Messages that were published as bytes arrive as `Uint8Array`. */
  channel<Data = unknown>(name: string, handlers: SubscriptionHandlers<Data> = {}): Subscription<Data> {
    if (!/^[\w.:/@-]{1,255}$/.test(name)) throw new TypeError('A channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : / @ -')
    return this.#topics.add(name, handlers)
  }

  /** Sends a message of a type that the application registered with `onMessage`, and waits for the reply. */
  request<Reply = unknown>(type: string, data?: unknown, options?: { timeout?: number }): Promise<Reply> {
    return this.#ask<Reply>({ type, data }, 'reply', options)
  }

  /** Publishes to a channel whose rule allows it. Resolves when the service has accepted it. */
  publish(channel: string, data: unknown, options?: { timeout?: number }): Promise<void> {
    return this.#ask({ type: 'publish', data: { channel, data } }, 'ack', options)
  }

  /** Who is subscribed to the channel. */
  presence(channel: string, options?: { timeout?: number }): Promise<Presence['data']> {
    return this.request('presence', { channel }, options)
  }

  #ask<Answer>(message: { type: string; data?: unknown }, answeredBy: AnswerKind, options?: { timeout?: number }): Promise<Answer> {
    if (this.#state === 'closed') return Promise.reject(new CarillonError('closed', 'The client is closed'))
    const timeout = options?.timeout ?? this.#options.requestTimeout ?? 10_000
    return this.#requests.add(message, answeredBy, timeout, (text) => this.#send(text))
  }

  async #open(Implementation: NonNullable<ClientOptions['WebSocket']>): Promise<void> {
    clearTimeout(this.#timer)
    const attempt = ++this.#attempt
    this.#become({ state: 'connecting' })
    this.#timer = setTimeout(() => this.#lost(1006, 'Connect timeout'), this.#options.connectTimeout ?? 10_000)
    try {
      const token = await this.#options.getToken?.()
      if (attempt !== this.#attempt) return
      const url = new URL(this.#url, (globalThis as { location?: { href: string } }).location?.href)
      const inMessage = this.#options.sendToken === 'message'
      if (token && !inMessage) url.searchParams.set('token', token)
      const socket = new Implementation(url.href, this.#options.protocols)
      this.#socket = socket
      socket.onopen = () => {
        if (inMessage && token) socket.send(JSON.stringify({ type: 'auth', data: { token } }))
      }
      socket.onmessage = ({ data }: { data: unknown }) => this.#receive(data)
      socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#lost(code, reason)
      // A close event follows, and says more.
      socket.onerror = () => {}
    } catch (error) {
      if (attempt !== this.#attempt) return
      this.#events.emit('error', error as Error)
      this.#lost(1006, 'Could not connect')
    }
  }

  #receive(data: unknown): void {
    this.#heartbeat.heard()
    try {
      this.#handle(JSON.parse(String(data)) as ServerMessage)
    } catch (error) {
      this.#events.emit('error', error as Error)
    }
  }

  #handle(message: ServerMessage): void {
    if (this.#topics.receive(message)) return
    switch (message.type) {
      case 'batch':
        for (const one of message.messages) this.#handle(one)
        return
      case 'ack':
        return this.#requests.acknowledged(message.messageId)
      case 'presence':
      case 'reply':
        return this.#requests.replied(message.messageId, message.data)
      case 'error':
        if (message.messageId !== undefined) this.#requests.reject(message.messageId, message.code ?? 'rejected', message.message)
        break
      case 'connected':
        this.#connected()
        break
      case 'notification':
        this.#events.emit('notification', message.notification)
        return
      case 'server_shutdown':
        this.#backoff.hint(message.data.reconnectDelay)
        break
      case 'token_expiring':
        void this.#renew()
        break
      case 'pong':
        return
    }
    this.#events.emit('message', message)
  }

  #connected(): void {
    if (this.#state !== 'connecting') return
    clearTimeout(this.#timer)
    this.#openedAt = Date.now()
    this.#heartbeat.start()
    this.#become({ state: 'open' })
    this.#topics.connected()
    this.#requests.flush((text) => this.#send(text))
  }

  async #renew(): Promise<void> {
    const attempt = this.#attempt
    try {
      const token = await this.#options.getToken?.()
      if (token && attempt === this.#attempt) this.#send(JSON.stringify({ type: 'auth', data: { token } }))
    } catch (error) {
      // The server closes the connection with 4001 when the old token has expired, and the client connects again.
      this.#events.emit('error', error as Error)
    }
  }

  /** The connection has ended, or is given up. */
  #lost(code: number, reason: string): void {
    if (FINAL_CODES.includes(code)) return this.#finish(code, reason)
    if (this.#state === 'closed') return
    if (this.#state === 'open' && Date.now() - this.#openedAt >= STABLE_AFTER) this.#backoff.reset()
    this.#drop(code, reason)
    this.#topics.disconnected()
    this.#requests.disconnected()
    const delay = this.#backoff.next()
    this.#timer = setTimeout(() => this.connect(), delay)
    this.#become({ state: 'waiting', delay, code, reason })
  }

  #finish(code: number, reason: string): void {
    if (this.#state === 'closed') return
    this.#drop(code, reason)
    this.#watchEnvironment(false)
    this.#backoff.reset()
    this.#become({ state: 'closed', code, reason })
    this.#topics.close()
    this.#requests.close()
  }

  /** Lets go of the socket. It is closed in case it is not yet; its events mean nothing from now on. */
  #drop(code: number, reason: string): void {
    this.#attempt++
    clearTimeout(this.#timer)
    this.#heartbeat.stop()
    const socket = this.#socket
    this.#socket = undefined
    if (!socket) return
    socket.onopen = socket.onmessage = socket.onclose = null
    socket.close(code === 1000 || code === 4000 ? code : 1000, reason)
  }

  #send(text: string): boolean {
    if (this.#state !== 'open') return false
    this.#socket?.send(text)
    return true
  }

  #become(info: StateInfo): void {
    this.#state = info.state
    this.#events.emit('state', info)
  }

  /** What a browser tells about the network and the page; elsewhere there is nothing to watch. */
  #watchEnvironment(isWatched: boolean): void {
    const { document } = globalThis as { document?: Document }
    const change = isWatched ? 'addEventListener' : 'removeEventListener'
    if (!document) return
    globalThis[change]('online', this.#onReturn)
    document[change]('visibilitychange', this.#onReturn)
  }

  /** The network is back or the page is looked at again: connect now, or find out whether the connection still lives. */
  #onReturn = (): void => {
    if ((globalThis as { document?: Document }).document?.visibilityState === 'hidden') return
    if (this.#state === 'waiting') this.connect()
    else if (this.#state === 'open') this.#heartbeat.probe(PROBE_TIMEOUT)
  }
}
