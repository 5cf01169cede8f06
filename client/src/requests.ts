// Requests that wait for a connection or for their answer. Each promise settles exactly once.

import { CarillonError, type ClientErrorCode } from './error.js'

/** What answers a request: an acknowledgement, or a message of its own. */
export type AnswerKind = 'ack' | 'reply'

interface Pending {
  answeredBy: AnswerKind
  text: string
  isSent: boolean
  timer: ReturnType<typeof setTimeout>
  resolve(answer: unknown): void
  reject(error: CarillonError): void
}

export class Requests {
  /** In the order in which they were made. */
  #pending = new Map<string, Pending>()
  #queued = 0
  #next = 0
  readonly #maxQueued: number

  constructor(maxQueued: number) {
    this.#maxQueued = maxQueued
  }

  /** `send` is tried at once; it returns whether there is a connection. */
  add<Answer>(
    message: { type: string; data?: unknown },
    answeredBy: AnswerKind,
    timeout: number,
    send: (text: string) => boolean,
  ): Promise<Answer> {
    return new Promise<unknown>((resolve, reject) => {
      const messageId = `c${this.#next++}`
      const text = JSON.stringify({ ...message, messageId })
      const isSent = send(text)
      if (!isSent && this.#queued >= this.#maxQueued) {
        return reject(new CarillonError('queue_full', `${this.#maxQueued} requests wait for a connection`))
      }
      if (!isSent) this.#queued++
      const timer = setTimeout(() => this.#fail(messageId, 'timeout', `No answer within ${timeout} ms`), timeout)
      this.#pending.set(messageId, { answeredBy, text, isSent, timer, resolve, reject })
    }) as Promise<Answer>
  }

  /** Sends what waits for a connection. */
  flush(send: (text: string) => boolean): void {
    for (const pending of this.#pending.values()) {
      if (!pending.isSent && send(pending.text)) {
        pending.isSent = true
        this.#queued--
      }
    }
  }

  /** A service that does not know the request acknowledges it all the same, and says so in an error right behind. */
  acknowledged(messageId: unknown): void {
    if (this.#pending.get(messageId as string)?.answeredBy === 'ack') setTimeout(() => this.#take(messageId)?.resolve(undefined), 0)
  }

  replied(messageId: unknown, answer: unknown): void {
    this.#take(messageId)?.resolve(answer)
  }

  reject(messageId: unknown, code: ClientErrorCode, message: string): void {
    this.#take(messageId)?.reject(new CarillonError(code, message))
  }

  /** Nobody will answer what was sent: the connection is gone. What was not sent yet waits for the next one. */
  disconnected(): void {
    for (const [messageId, { isSent }] of this.#pending) {
      if (isSent) this.#fail(messageId, 'disconnected', 'The connection was lost before the answer came')
    }
  }

  close(): void {
    for (const messageId of this.#pending.keys()) this.#fail(messageId, 'closed', 'The client was closed')
  }

  #fail(messageId: string, code: ClientErrorCode, message: string): void {
    this.#take(messageId)?.reject(new CarillonError(code, message))
  }

  #take(messageId: unknown): Pending | undefined {
    const pending = this.#pending.get(messageId as string)
    if (!pending) return
    this.#pending.delete(messageId as string)
    clearTimeout(pending.timer)
    if (!pending.isSent) this.#queued--
    return pending
  }
}
