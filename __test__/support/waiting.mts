// Waiting for something to happen: always with a limit, never for time to pass.

import { setImmediate as turn } from 'node:timers/promises'

const LIMIT = 15_000
/** How many times longer everything may take, as on an emulated processor. */
export const SLOWNESS = Number(process.env['CARILLON_TEST_SLOWNESS'] ?? 1)

/** The promise's outcome, or a failure that says what did not happen. */
export async function within<T>(promise: Promise<T>, what: string, given = LIMIT): Promise<T> {
  const limit = given * SLOWNESS
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${limit} ms: ${what}`)), limit)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves once the condition holds. For what tells of itself by no event: descriptors, memory. */
export async function eventually(condition: () => boolean, what: string, given = LIMIT): Promise<void> {
  const limit = given * SLOWNESS
  const deadline = performance.now() + limit
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${limit} ms: ${what}`)
    await turn()
  }
}

/** What has come and not been taken yet, for those who come to take it. */
export class Mailbox<T> {
  readonly #waiting: Array<{ matches: (item: T) => boolean; resolve: (item: T) => void; reject: (error: Error) => void }> = []
  readonly #pending: T[] = []
  #ended: Error | undefined

  put(item: T): void {
    const index = this.#waiting.findIndex(({ matches }) => matches(item))
    if (index < 0) this.#pending.push(item)
    else this.#waiting.splice(index, 1)[0]?.resolve(item)
  }

  /** Nothing more will come: those who wait, and will wait, are told so. */
  end(reason: string): void {
    this.#ended = new Error(reason)
    for (const { reject } of this.#waiting.splice(0)) reject(this.#ended)
  }

  /** The oldest item that matches, as soon as there is one. */
  take(matches: (item: T) => boolean, what: string, limit = LIMIT): Promise<T> {
    const index = this.#pending.findIndex(matches)
    if (index >= 0) return Promise.resolve(this.#pending.splice(index, 1)[0] as T)
    if (this.#ended) return Promise.reject(new Error(`${this.#ended.message}, while waiting for ${what}`))
    const item = new Promise<T>((resolve, reject) => {
      const fail = (error: Error): void => reject(new Error(`${error.message}, while waiting for ${what}`))
      this.#waiting.push({ matches, resolve, reject: fail })
    })
    return within(item, what, limit)
  }

  get size(): number {
    return this.#pending.length
  }
}
