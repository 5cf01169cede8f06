// Typed events. A listener that throws is reported like an uncaught exception and does not keep the others from being called.

export class Emitter<Events> {
  #listeners: { [Name in keyof Events]?: Set<(detail: Events[Name]) => void> } = {}

  /** Adds a listener and returns the function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void {
    const listeners = (this.#listeners[name] ??= new Set())
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void {
    // A copy: listeners may add and remove others.
    for (const listener of [...(this.#listeners[name] ?? [])]) call(listener, detail)
  }
}

/** Calls a function of the application; what it throws surfaces as an uncaught exception, after the client has gone on. */
export function call<Args extends unknown[]>(callback: ((...args: Args) => unknown) | undefined, ...args: Args): void {
  try {
    callback?.(...args)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
