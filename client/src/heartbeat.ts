// Notices a dead connection. Browsers show no ping frames, so the client asks with messages of its own.

export class Heartbeat {
  readonly #interval: number
  readonly #timeout: number
  readonly #ping: () => void
  readonly #onDead: () => void
  #next: ReturnType<typeof setTimeout> | undefined
  #deadline: ReturnType<typeof setTimeout> | undefined

  /** Milliseconds between pings, and until silence after a ping means that the connection is dead. */
  constructor(interval: number, timeout: number, ping: () => void, onDead: () => void) {
    this.#interval = interval
    this.#timeout = timeout
    this.#ping = ping
    this.#onDead = onDead
  }

  start(): void {
    this.stop()
    this.#schedule()
  }

  /** Pings now: after the device slept or the network changed, the connection may be dead already. */
  probe(timeout: number): void {
    clearTimeout(this.#deadline)
    this.#deadline = undefined
    this.#beat(timeout)
  }

  /** Any message proves that the connection is alive. */
  heard(): void {
    clearTimeout(this.#deadline)
    this.#deadline = undefined
  }

  stop(): void {
    clearTimeout(this.#next)
    this.heard()
  }

  #beat(timeout = this.#timeout): void {
    this.#schedule()
    this.#ping()
    // A deadline that runs already belongs to an earlier ping, and must not be moved by later ones.
    this.#deadline ??= setTimeout(this.#onDead, timeout)
  }

  #schedule(): void {
    clearTimeout(this.#next)
    this.#next = setTimeout(() => this.#beat(), this.#interval)
  }
}
