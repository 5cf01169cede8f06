// What the client reads out of a position: enough to recognise duplicates and replays, and nothing the server depends on.

import type { Position } from './wire.js'

/** The publication's id, which stays the same if the publication is stored again at another offset. */
export function publicationId(position: Position): string {
  return position.slice(position.lastIndexOf(':') + 1)
}

/** Whether a publication at `position` is not newer than `top`: it was published before the subscription was confirmed. */
export function isAtOrBefore(position: Position, top: Position | undefined): boolean {
  if (!top) return false
  const [epoch, offset] = position.split(':')
  const [topEpoch, topOffset] = top.split(':')
  return epoch === topEpoch && Number(offset) <= Number(topOffset)
}
