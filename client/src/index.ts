export { CarillonClient } from './client.js'
export type { ClientEvents, ClientOptions, ClientState, StateInfo, WebSocketLike } from './client.js'
export { CarillonError } from './error.js'
export type { ClientErrorCode } from './error.js'
export type {
  GapInfo,
  PresenceChangeInfo,
  PublicationInfo,
  ReceivedMessage,
  Subscription,
  SubscriptionHandlers,
  SubscriptionState,
} from './subscription.js'
export type * from './wire.js'
