// What is followed: one entry per topic, with its position, and the requests that bring the server to the same view.
// Knows no socket: it is told of connections, and hands over what is to be sent.

import { CarillonError, type ClientErrorCode } from './error.js'
import { isAtOrBefore, publicationId } from './position.js'
import { type PublicationInfo, Subscription, type SubscriptionHandlers } from './subscription.js'
import type { BatchSubscribed, ErrorReply, GapReason, Position, ServerMessage, Topic } from './wire.js'

/** Ids of publications that are remembered per topic. A replay is at most 300 publications long. */
const REMEMBERED_IDS = 512

/** Bytes of topics in one request, below the service's smallest sensible limit of a message. */
const REQUEST_BYTES = 32_768

/** A subscription, whatever its topic carries. */
type Subscriber = Pick<Subscription<unknown>, 'become' | 'deliver' | 'gap' | 'presence' | 'end'>

interface Entry {
  subscriptions: Set<Subscriber>
  /** What this connection's server knows of it. */
  server: 'unknown' | 'asked' | 'subscribed' | 'refused'
  /** An earlier connection was subscribed: publications may have been missed since. */
  isResuming: boolean
  position: Position | undefined
  /** Position at the moment the subscription was confirmed: what is not newer is a replay. */
  top: Position | undefined
  ids: Set<string>
  gapTimer: ReturnType<typeof setTimeout> | undefined
}

export class Topics {
  #entries = new Map<Topic, Entry>()
  /** Batches without a reply, oldest first: replies come in the order of the requests. */
  #asked: { messageId: string; topics: Topic[] }[] = []
  #nextBatch = 0
  #isSyncDue = false
  readonly #send: (message: object) => boolean

  /** `send` returns whether there is a connection. */
  constructor(send: (message: object) => boolean) {
    this.#send = send
  }

  add<Data>(topic: Topic, handlers: SubscriptionHandlers<Data>): Subscription<Data> {
    const subscription: Subscription<Data> = new Subscription(topic, handlers, () => this.#remove(topic, subscription))
    let entry = this.#entries.get(topic)
    if (!entry) {
      entry = {
        subscriptions: new Set(),
        server: 'unknown',
        isResuming: false,
        position: undefined,
        top: undefined,
        ids: new Set(),
        gapTimer: undefined,
      }
      this.#entries.set(topic, entry)
    }
    entry.subscriptions.add(subscription)
    subscription.become(entry.server === 'subscribed' || entry.server === 'refused' ? entry.server : 'pending')
    this.#sync()
    return subscription
  }

  #remove(topic: Topic, subscription: Subscriber): void {
    this.#entries.get(topic)?.subscriptions.delete(subscription)
    this.#sync()
  }

  /** Brings the server's view up to date at the end of this turn, so that what changes together travels together. */
  #sync(): void {
    if (this.#isSyncDue) return
    this.#isSyncDue = true
    queueMicrotask(() => {
      this.#isSyncDue = false
      this.#unsubscribe()
      this.#subscribe()
    })
  }

  #unsubscribe(): void {
    const bills: number[] = []
    for (const [topic, entry] of this.#entries) {
      if (entry.subscriptions.size > 0) continue
      this.#entries.delete(topic)
      clearTimeout(entry.gapTimer)
      if (entry.server !== 'asked' && entry.server !== 'subscribed') continue
      if (typeof topic === 'number') bills.push(topic)
      else this.#send({ type: 'unsubscribe', data: { channel: topic } })
    }
    for (let from = 0; from < bills.length; from += REQUEST_BYTES / 16) {
      this.#send({ type: 'batch_unsubscribe', data: { bill_ids: bills.slice(from, from + REQUEST_BYTES / 16) } })
    }
  }

  #subscribe(): void {
    let topics: Topic[] = []
    let bytes = 0
    for (const [topic, { server, position }] of this.#entries) {
      if (server !== 'unknown') continue
      topics.push(topic)
      // Names and numbers are ASCII, and stand twice in the request.
      bytes += 2 * String(topic).length + (position?.length ?? 4) + 8
      if (bytes > REQUEST_BYTES) {
        if (!this.#ask(topics)) return
        topics = []
        bytes = 0
      }
    }
    if (topics.length > 0) this.#ask(topics)
  }

  #ask(topics: Topic[]): boolean {
    const since: Record<string, Position | null> = {}
    for (const topic of topics) since[topic] = this.#entries.get(topic)?.position ?? null
    const channels = topics.filter((topic) => typeof topic === 'string')
    const messageId = `s${this.#nextBatch++}`
    // A service without channels answers only requests that have bills, and ignores the rest.
    const bill_ids = topics.filter((topic) => typeof topic === 'number')
    const data = channels.length > 0 ? { bill_ids, channels, since } : { bill_ids, since }
    if (!this.#send({ type: 'batch_subscribe', data, messageId })) return false
    this.#asked.push({ messageId, topics })
    for (const topic of topics) {
      const entry = this.#entries.get(topic)
      if (entry) entry.server = 'asked'
    }
    return true
  }

  connected(): void {
    this.#sync()
  }

  disconnected(): void {
    this.#asked = []
    for (const entry of this.#entries.values()) {
      entry.server = 'unknown'
      for (const subscription of entry.subscriptions) subscription.become('pending')
    }
  }

  close(): void {
    for (const { subscriptions, gapTimer } of this.#entries.values()) {
      clearTimeout(gapTimer)
      for (const subscription of subscriptions) subscription.end()
    }
    this.#entries.clear()
    this.#asked = []
  }

  /** `true` if the message was about a topic and needs no further handling. */
  receive(message: ServerMessage): boolean {
    switch (message.type) {
      case 'bill_update':
        return this.#publication(message.bill_id, message.update, message.timestamp, message.pos)
      case 'message': {
        const data = message.encoding === 'base64' ? fromBase64(String(message.data)) : message.data
        return this.#publication(message.channel, data, message.timestamp, message.pos)
      }
      case 'batch_subscribed':
        this.#confirm(message.data)
        return true
      case 'gap': {
        const { reason, reload_in, pos } = message.data
        const entry = this.#entries.get('channel' in message.data ? message.data.channel : message.data.bill_id)
        if (entry) this.#gap(entry, reason, pos, reload_in)
        return true
      }
      case 'presence_join':
      case 'presence_leave': {
        const change = { userId: message.data.user_id, joined: message.type === 'presence_join' }
        for (const subscription of this.#subscriptions(message.data.channel)) subscription.presence(change)
        return true
      }
      case 'error':
        return this.#refuse(message)
      default:
        return false
    }
  }

  #publication(topic: Topic, data: unknown, timestamp: string, pos: Position | undefined): boolean {
    const entry = this.#entries.get(topic)
    if (!entry) return true
    if (pos !== undefined) {
      const id = publicationId(pos)
      if (entry.ids.has(id)) return true
      entry.ids.add(id)
      if (entry.ids.size > REMEMBERED_IDS) entry.ids.delete(entry.ids.values().next().value as string)
      entry.position = pos
    }
    const info: PublicationInfo = { timestamp, replayed: pos !== undefined && isAtOrBefore(pos, entry.top) }
    if (pos !== undefined) info.pos = pos
    for (const subscription of this.#subscriptions(topic)) subscription.deliver(data, info)
    return true
  }

  #confirm(data: BatchSubscribed['data']): void {
    const asked = new Set(this.#asked.shift()?.topics)
    for (const topic of data.subscribed) {
      asked.delete(topic)
      const entry = this.#entries.get(topic)
      if (!entry) continue
      entry.server = 'subscribed'
      entry.top = data.pos?.[topic]
      for (const subscription of entry.subscriptions) subscription.become('subscribed')
      const reason = data.lost?.[topic]
      const isRecovered = data.recovered?.includes(topic)
      // A first subscription cannot have missed anything; one on a new connection may have, unless the server says otherwise.
      if (reason ?? (entry.isResuming && !isRecovered)) this.#gap(entry, reason ?? 'unsupported', entry.top, data.reload_in)
      else if (!isRecovered) entry.position = entry.top
      entry.isResuming = true
    }
    for (const failure of data.failed) {
      const topic = typeof failure === 'object' ? failure.channel : failure
      asked.delete(topic)
      this.#refused(topic, typeof failure === 'object' ? failure.code : 'forbidden', 'Subscription refused')
    }
    for (const topic of asked) this.#refused(topic, 'rejected', 'The service does not know this kind of topic')
  }

  #refuse(error: ErrorReply): boolean {
    const index = this.#asked.findIndex(({ messageId }) => messageId === error.messageId)
    const [batch] = index < 0 ? [] : this.#asked.splice(index, 1)
    for (const topic of batch?.topics ?? []) this.#refused(topic, error.code ?? 'rejected', error.message)
    return batch !== undefined
  }

  #refused(topic: Topic, code: ClientErrorCode, message: string): void {
    const entry = this.#entries.get(topic)
    if (!entry) return
    entry.server = 'refused'
    for (const subscription of this.#subscriptions(topic)) subscription.become('refused', new CarillonError(code, message))
  }

  #gap(entry: Entry, reason: GapReason, position: Position | undefined, reloadIn = 0): void {
    entry.position = position ?? entry.position
    clearTimeout(entry.gapTimer)
    entry.gapTimer = setTimeout(() => {
      for (const subscription of [...entry.subscriptions]) subscription.gap(reason)
    }, reloadIn)
  }

  /** A copy: handlers may subscribe and unsubscribe. */
  #subscriptions(topic: Topic): Subscriber[] {
    return [...(this.#entries.get(topic)?.subscriptions ?? [])]
  }
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
}
