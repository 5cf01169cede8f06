// When to connect again. Full jitter: clients that lost their server at the same moment come back at different moments.

export class Backoff {
  #attempt = 0
  #hint = 0
  readonly #base: number
  readonly #cap: number

  constructor(base: number, cap: number) {
    this.#base = base
    this.#cap = cap
  }

  /** The server asked for at least this many milliseconds before the next attempt. */
  hint(delay: number): void {
    this.#hint = Math.min(Math.max(0, delay) || 0, 10 * this.#cap)
  }

  reset(): void {
    this.#attempt = 0
  }

  /** Milliseconds until the next attempt. */
  next(): number {
    const ceiling = Math.min(this.#cap, this.#base * 2 ** this.#attempt++)
    const delay = this.#hint + Math.random() * ceiling
    this.#hint = 0
    return delay
  }
}
