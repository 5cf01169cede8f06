// A client of the service: everything it has been sent, unpacked and in order, and ways to wait for more.

import { once } from 'node:events'
import WebSocket, { type ClientOptions } from 'ws'
import { Mailbox, within } from './waiting.mjs'

/** What a peer means, whatever it consists of. */
export interface Message {
  type: string
  // A test knows what it expects: anything else fails its assertion.
  [member: string]: any
}

export interface Closed {
  code: number
  reason: string
}

export class Client {
  readonly socket: WebSocket
  /** The text of every frame, as it came. */
  readonly frames: string[] = []
  /** All messages, batches unpacked. */
  readonly messages: Message[] = []
  readonly closed: Promise<Closed>
  readonly #mailbox = new Mailbox<Message>()
  #probes = 0

  constructor(url: string, protocols: string[] = [], options: ClientOptions = {}) {
    this.socket = new WebSocket(url, protocols, options)
    this.socket.on('message', (data) => this.#receive(String(data)))
    // `open` and `closed` settle with it.
    this.socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      this.socket.once('close', (code, reason) => {
        this.#mailbox.end(`the connection was closed with ${code} ${String(reason)}`.trim())
        resolve({ code, reason: String(reason) })
      })
    })
  }

  static async open(url: string, protocols?: string[], options?: ClientOptions): Promise<Client> {
    const client = new Client(url, protocols, options)
    await within(once(client.socket, 'open'), `a connection to ${url.replace(/\?.*/, '')}`)
    return client
  }

  send(type: unknown, data?: unknown, rest: Record<string, unknown> = {}): void {
    this.sendText(JSON.stringify({ type, data, ...rest }))
  }

  sendText(text: string): void {
    this.socket.send(text)
  }

  /** The oldest message of this type not taken before, as soon as it is there. */
  take(type: string, limit?: number): Promise<Message> {
    return this.#mailbox.take((message) => message.type === type, `"${type}"`, limit)
  }

  /** The oldest message not taken before. */
  next(): Promise<Message> {
    return this.#mailbox.take(() => true, 'a message')
  }

  async takeMany(type: string, count: number): Promise<Message[]> {
    const messages: Message[] = []
    while (messages.length < count) messages.push(await this.take(type))
    return messages
  }

  async subscribe(...bills: number[]): Promise<void> {
    this.send('batch_subscribe', { bill_ids: bills })
    await this.take('batch_subscribed')
  }

  async unsubscribe(...bills: number[]): Promise<void> {
    this.send('batch_unsubscribe', { bill_ids: bills })
    await this.take('batch_unsubscribed')
  }

  /** Resolves when the answer to a request sent now is here, and with it all that was buffered before. */
  async probe(): Promise<void> {
    const messageId = `probe ${this.#probes++}`
    this.send('unsubscribe', {}, { messageId })
    await this.#mailbox.take((message) => message.type === 'ack' && message['messageId'] === messageId, 'an ack')
  }

  received(type: string): Message[] {
    return this.messages.filter((message) => message.type === type)
  }

  close(code?: number, reason?: string): Promise<Closed> {
    this.socket.close(code, reason)
    return this.whenClosed()
  }

  whenClosed(limit?: number): Promise<Closed> {
    return within(this.closed, 'the end of a connection', limit)
  }

  #receive(text: string): void {
    this.frames.push(text)
    const message = JSON.parse(text) as Message
    for (const single of message.type === 'batch' ? (message['messages'] as Message[]) : [message]) {
      this.messages.push(single)
      this.#mailbox.put(single)
    }
  }
}
