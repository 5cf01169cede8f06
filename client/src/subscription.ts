// One part of the application that follows a topic. Several may follow the same topic; the server sees one subscription.

import { call } from './emitter.js'
import type { CarillonError } from './error.js'
import type { GapReason, Position, Topic } from './wire.js'

/** What comes with each publication. */
export interface PublicationInfo {
  /** ISO 8601. */
  timestamp: string
  /** Undefined where the service keeps no history of the topic. */
  pos?: Position
  /** It was published while this client was away. */
  replayed: boolean
}

export interface GapInfo {
  reason: GapReason
}

export interface PresenceChangeInfo {
  userId: string
  joined: boolean
}

export interface SubscriptionHandlers<Data> {
  onUpdate?(data: Data, info: PublicationInfo): void
  /**
   * Publications may have been missed: load the current state from the application. Called after the time that the server
   * asked this client to wait, so that not all clients load at once.
   */
  onGap?(info: GapInfo): void
  /** The server refused the subscription. It is asked again after a reconnect. */
  onError?(error: CarillonError): void
  /** Called at once with the present state, and whenever it changes. */
  onState?(state: SubscriptionState): void
  /** A user's first connection subscribed to the channel, or the last one left it. */
  onPresence?(change: PresenceChangeInfo): void
}

export interface ReceivedMessage<Data> extends PublicationInfo {
  data: Data
}

/** `closed`: ended by `unsubscribe()` or by the end of the client. */
export type SubscriptionState = 'pending' | 'subscribed' | 'refused' | 'closed'

/** Messages that wait for a `for await` loop; beyond it the oldest is dropped and `onGap` told `slow`. */
const MAX_WAITING = 1000

export class Subscription<Data = unknown> implements AsyncIterable<ReceivedMessage<Data>> {
  readonly topic: Topic
  #state: SubscriptionState = 'pending'
  readonly #handlers: SubscriptionHandlers<Data>
  readonly #leave: () => void
  readonly #iterators = new Set<MessageIterator<Data>>()

  /** @internal */
  constructor(topic: Topic, handlers: SubscriptionHandlers<Data>, leave: () => void) {
    this.topic = topic
    this.#handlers = handlers
    this.#leave = leave
  }

  get state(): SubscriptionState {
    return this.#state
  }

  unsubscribe(): void {
    if (this.#state === 'closed') return
    this.end()
    this.#leave()
  }

  /** Messages from now on. Ends with the subscription. */
  [Symbol.asyncIterator](): AsyncIterator<ReceivedMessage<Data>> {
    const iterator = new MessageIterator<Data>((ended) => this.#iterators.delete(ended))
    if (this.#state === 'closed') iterator.end()
    else this.#iterators.add(iterator)
    return iterator
  }

  /** @internal */
  become(state: 'pending' | 'subscribed' | 'refused', error?: CarillonError): void {
    if (this.#state === 'closed') return
    this.#state = state
    call(this.#handlers.onState, state)
    if (error) call(this.#handlers.onError, error)
  }

  /** @internal */
  deliver(received: unknown, info: PublicationInfo): void {
    if (this.#state === 'closed') return
    // What a topic carries is the application's agreement with itself.
    const data = received as Data
    call(this.#handlers.onUpdate, data, info)
    for (const iterator of this.#iterators) {
      if (!iterator.push({ data, ...info })) this.gap('slow')
    }
  }

  /** @internal */
  gap(reason: GapReason): void {
    if (this.#state !== 'closed') call(this.#handlers.onGap, { reason })
  }

  /** @internal */
  presence(change: PresenceChangeInfo): void {
    if (this.#state !== 'closed') call(this.#handlers.onPresence, change)
  }

  /** @internal */
  end(): void {
    this.#state = 'closed'
    call(this.#handlers.onState, 'closed')
    for (const iterator of this.#iterators) iterator.end()
    this.#iterators.clear()
  }
}

class MessageIterator<Data> implements AsyncIterator<ReceivedMessage<Data>> {
  #waiting: ReceivedMessage<Data>[] = []
  #readers: ((result: IteratorResult<ReceivedMessage<Data>>) => void)[] = []
  #ended = false
  readonly #onReturn: (iterator: MessageIterator<Data>) => void

  constructor(onReturn: (iterator: MessageIterator<Data>) => void) {
    this.#onReturn = onReturn
  }

  /** `false` if an older message had to be dropped. */
  push(value: ReceivedMessage<Data>): boolean {
    const reader = this.#readers.shift()
    if (reader) reader({ value, done: false })
    else this.#waiting.push(value)
    if (this.#waiting.length <= MAX_WAITING) return true
    this.#waiting.shift()
    return false
  }

  /** Messages that wait are still read. */
  end(): void {
    this.#ended = true
    for (const reader of this.#readers.splice(0)) reader({ value: undefined, done: true })
  }

  next(): Promise<IteratorResult<ReceivedMessage<Data>>> {
    const value = this.#waiting.shift()
    if (value) return Promise.resolve({ value, done: false })
    if (this.#ended) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve) => this.#readers.push(resolve))
  }

  return(): Promise<IteratorResult<ReceivedMessage<Data>>> {
    this.#waiting = []
    this.end()
    this.#onReturn(this)
    return Promise.resolve({ value: undefined, done: true })
  }
}
