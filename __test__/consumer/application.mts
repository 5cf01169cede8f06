// Compiled by consumer.spec under the strictest settings, with the package as npm would deliver it; never run. What an
// application writes must be well typed, and what can only be a mistake must not be.

import { createServer } from 'node:http'
import { createSecureServer } from 'node:http2'
import * as everything from 'carillon'
import { BASE_CONFIG, WebSocketService, webSocketService, type BillUpdate, type RuntimeConfig, type WebSocketServiceOptions } from 'carillon'

/** As under "exactOptionalPropertyTypes", where an absent variable is not an absent member. */
export const fromEnvironment = new WebSocketService({
  jwtSecret: process.env['JWT_SECRET'],
  jwtIssuer: process.env['JWT_ISSUER'],
  base: { HEARTBEAT_INTERVAL: undefined },
  runtime: { DEDUPE_WINDOW: undefined },
})
void webSocketService.listen({ port: 8080, host: process.env['HOST'], tls: undefined })
webSocketService.inspect({ top: undefined })

/** Every option may be undefined. */
export const undefinedOptions: { [Name in keyof Required<WebSocketServiceOptions>]: undefined } extends WebSocketServiceOptions ? true : false = true

webSocketService.initialize(createServer())
webSocketService.initialize(createSecureServer({ allowHTTP1: true }))

interface Vote {
  chamber: string
  ayes: number
}
interface BillEvent {
  type: 'voting_scheduled'
  data: Vote
  timestamp: Date
  source: string
}
class Amendment {
  constructor(readonly title: string) {}
}
declare const vote: Vote
declare const event: BillEvent

// Values of an interface or a class, with members beside the named ones.
webSocketService.broadcastBillUpdate(42, event)
webSocketService.broadcastBillUpdate(42, { type: 'voting_scheduled', data: vote, timestamp: new Date(), source: 'clerk' })
webSocketService.broadcastBillUpdate(42, { type: 'amendment', data: new Amendment('two'), timestamp: Date.now() })
webSocketService.sendUserNotification('7', { type: 'vote', title: 'A vote', message: 'is near', data: vote, link: '/bills/42' })
webSocketService.broadcastToAll({ type: 'maintenance', data: vote, timestamp: undefined, until: 'noon' })
export const named: BillUpdate = event

export const window: number = webSocketService.runtimeConfig.get('DEDUPE_WINDOW')
export const settings: RuntimeConfig = webSocketService.runtimeConfig
export const first: number | undefined = webSocketService.getUserSubscriptions('7')[0]
export const limit: number = BASE_CONFIG.MAX_PAYLOAD

/** The values that the package exports. */
export const values: Record<Exclude<keyof typeof everything, 'default'>, unknown> = {
  BASE_CONFIG,
  WebSocketService,
  webSocketService,
}

// @ts-expect-error only a service makes one
new everything.RuntimeConfig()
// @ts-expect-error how the binary was loaded is private
void everything.__napiBindingTarget
// @ts-expect-error an update has data
webSocketService.broadcastBillUpdate(42, { type: 'amendment', timestamp: new Date() })
// @ts-expect-error data is an object
webSocketService.broadcastToAll({ type: 'maintenance', data: 'at noon' })
// @ts-expect-error there is no such option
export const wrong = new WebSocketService({ secret: 'x' })
