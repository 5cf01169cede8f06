// React hooks. Safe in StrictMode (effects that run twice cost one subscription) and on the server (nothing connects there).

import { useEffect, useRef, useState, useSyncExternalStore } from 'react'
import { CarillonClient, type ClientOptions, type GapInfo, type ReceivedMessage, type StateInfo } from 'carillon-client'
import type { CarillonError, SubscriptionHandlers, SubscriptionState } from 'carillon-client'

/**
 * A client that lives as long as the component, and its state. `client` is undefined on the server and in the first render.
 * A change of `url` makes a new client; the options are those of the render in which it is made.
 */
export function useCarillon(url: string, options?: ClientOptions): { client: CarillonClient | undefined; state: StateInfo['state'] } {
  const [client, setClient] = useState<CarillonClient>()
  const latest = useLatest(options)
  useEffect(() => {
    const created = new CarillonClient(url, latest.current)
    setClient(created)
    return () => {
      setClient(undefined)
      created.close()
    }
  }, [url, latest])
  const state = useSyncExternalStore(
    (notify) => client?.on('state', notify) ?? noop,
    () => client?.state ?? 'connecting',
    () => 'connecting' as const,
  )
  return { client, state }
}

export interface TopicHookOptions {
  /** Publications may have been missed: load the current state from the application. */
  onGap?(info: GapInfo): void
  onError?(error: CarillonError): void
}

/** The newest update of a bill. Follows the bill as long as the component lives. */
export function useBill<Update = { type: string; data: unknown; timestamp: string }>(
  client: CarillonClient | undefined,
  id: number | undefined,
  options: TopicHookOptions & { onUpdate?: SubscriptionHandlers<Update>['onUpdate'] } = {},
): { update: Update | undefined; state: SubscriptionState } {
  const [update, setUpdate] = useState<Update>()
  const latest = useLatest(options)
  const [state, setState] = useState<SubscriptionState>('pending')
  useEffect(() => {
    if (!client || id === undefined) return
    setUpdate(undefined)
    const subscription = client.bill<Update>(id, {
      onUpdate(next, info) {
        setUpdate(() => next)
        latest.current.onUpdate?.(next, info)
      },
      onGap: (info) => latest.current.onGap?.(info),
      onError: (error) => latest.current.onError?.(error),
      onState: setState,
    })
    return () => subscription.unsubscribe()
  }, [client, id, latest])
  return { update, state }
}

/** The newest messages of a channel, oldest first. Follows the channel as long as the component lives. */
export function useChannel<Data = unknown>(
  client: CarillonClient | undefined,
  name: string | undefined,
  /** `keep`: how many messages are kept, 100 unless said otherwise. */
  options: TopicHookOptions & { keep?: number; onMessage?(message: ReceivedMessage<Data>): void } = {},
): { messages: readonly ReceivedMessage<Data>[]; state: SubscriptionState; publish(data: unknown): Promise<void> } {
  const [messages, setMessages] = useState<readonly ReceivedMessage<Data>[]>([])
  const latest = useLatest(options)
  const [state, setState] = useState<SubscriptionState>('pending')
  useEffect(() => {
    if (!client || name === undefined) return
    setMessages([])
    const subscription = client.channel<Data>(name, {
      onUpdate(data, info) {
        const message = { data, ...info }
        setMessages((before) => [...before, message].slice(-(latest.current.keep ?? 100)))
        latest.current.onMessage?.(message)
      },
      onGap: (info) => latest.current.onGap?.(info),
      onError: (error) => latest.current.onError?.(error),
      onState: setState,
    })
    return () => subscription.unsubscribe()
  }, [client, name, latest])
  const publish = (data: unknown) =>
    client && name !== undefined ? client.publish(name, data) : Promise.reject(new Error('There is no client or no channel yet'))
  return { messages, state, publish }
}

export interface PresenceState {
  /** Undefined until the first answer, and where there are too many users to list. */
  users: readonly string[] | undefined
  count: number | undefined
}

/** Who is subscribed to a channel. Subscribes to it, too: the service tells of changes to its subscribers. */
export function usePresence(client: CarillonClient | undefined, name: string | undefined): PresenceState {
  const [presence, setPresence] = useState<PresenceState>({ users: undefined, count: undefined })
  useEffect(() => {
    if (!client || name === undefined) return
    let isCurrent = true
    const load = () => {
      client.presence(name).then(
        ({ users, count }) => {
          if (isCurrent) setPresence({ users: users?.map(({ user_id }) => user_id), count: count ?? users?.length })
        },
        // The connection was lost: the next subscription loads again.
        noop,
      )
    }
    const subscription = client.channel(name, {
      onState: (state) => state === 'subscribed' && load(),
      onPresence({ userId, joined }) {
        setPresence((before) => changed(before, userId, joined))
      },
      onGap: load,
    })
    return () => {
      isCurrent = false
      subscription.unsubscribe()
    }
  }, [client, name])
  return presence
}

function changed({ users, count }: PresenceState, userId: string, joined: boolean): PresenceState {
  if (!users) return { users, count: count === undefined ? undefined : Math.max(0, count + (joined ? 1 : -1)) }
  const others = users.filter((user) => user !== userId)
  const next = joined ? [...others, userId] : others
  return { users: next, count: next.length }
}

/** The newest value, for callbacks that outlive the render that made them. */
function useLatest<Value>(value: Value): { readonly current: Value } {
  const latest = useRef(value)
  useEffect(() => {
    latest.current = value
  })
  return latest
}

function noop(): void {}
