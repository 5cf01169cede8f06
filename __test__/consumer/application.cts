// The same package for a CommonJS application; compiled by consumer.spec, never run.

import carillon = require('carillon')
import { webSocketService, type HealthStatus } from 'carillon'

export const service: carillon.WebSocketService = new carillon.WebSocketService({ path: '/live' })
export const health: HealthStatus = webSocketService.getHealthStatus()
