// What a peer could send to cost as much as it can: bytes of one connection, made before they are measured.

import { deflateRawSync } from 'node:zlib'
import { Opcode, frame, text } from './raw.mjs'

export interface HostileInput {
  name: string
  /** What the frames are; made once. */
  bytes: Buffer
  deflate?: boolean
}

const LARGEST = 102_400

/** Compressed as permessage-deflate has it, whole. */
function squeezed(payload: string): Buffer {
  return frame(Opcode.text, deflateRawSync(payload, { finishFlush: 2 }).subarray(0, -4), { rsv: 4 })
}

function repeat(bytes: Buffer, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes))
}

/** As large as a message may be. */
function filled(before: string, unit: string, after: string): string {
  const count = Math.floor((LARGEST - before.length - after.length) / unit.length)
  return before + unit.repeat(count) + after
}

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)

/** A little of the worst, for very many connections at once. */
export function hostileBurst(): Buffer {
  const array = filled('{"type":"none","data":[0', ',0', ']}')
  return Buffer.concat([repeat(squeezed(array), 4), repeat(text('{"type":"ping"}'), 300), text(array)])
}

export function hostileInputs(): HostileInput[] {
  const ids = filled('{"type":"batch_unsubscribe","data":{"bill_ids":[1', ',1', ']}}')
  const follow = filled('{"type":"batch_subscribe","data":{"bill_ids":[1', ',12345', ']}}')
  const array = filled('{"type":"none","data":[0', ',0', ']}')
  const preferences = filled('{"type":"update_preferences","data":{"preferences":"', 'x', '"}}')
  const members = filled('{"type":"update_preferences","data":{"preferences":{"a":0', ',"b":0', '}}}')
  const wrong = ['null', '7', '"x"', 'true', '[1,2]', '{"a":1}'].map((value) =>
    text(`{"type":${value},"data":${value},"messageId":${value},"timestamp":${value},"bill_id":${value}}`),
  )
  const spaces = filled('{"type":"ping"}', ' ', '')
  return [
    { name: 'compressed repetitions', bytes: repeat(squeezed(spaces), 400), deflate: true },
    { name: 'compressed arrays', bytes: repeat(squeezed(array), 100), deflate: true },
    { name: 'compressed text for preferences', bytes: repeat(squeezed(preferences), 100), deflate: true },
    { name: 'compressed members for preferences', bytes: repeat(squeezed(members), 60), deflate: true },
    { name: 'deep nesting', bytes: repeat(text(`{"type":${nested(120)}}`), 1000) },
    { name: 'nesting beyond the limit', bytes: repeat(text(`{"type":${nested(50_000)}}`), 20) },
    { name: 'huge arrays', bytes: repeat(text(array), 20) },
    { name: 'many ids in one batch', bytes: repeat(Buffer.concat([text(follow), text(ids)]), 20) },
    { name: 'subscriptions that come and go', bytes: repeat(Buffer.concat([text('{"type":"subscribe","data":{"bill_id":1}}'), text('{"type":"unsubscribe","data":{"bill_id":1}}')]), 3000) },
    { name: '10 000 tiny messages in one write', bytes: repeat(text('{"type":"ping"}'), 10_000) },
    { name: '10 000 pings in one write', bytes: repeat(frame(Opcode.ping), 10_000) },
    { name: 'wrong types in every member', bytes: repeat(Buffer.concat(wrong), 800) },
    { name: 'no JSON', bytes: repeat(text('{'), 5000) },
    { name: 'a long unknown type', bytes: repeat(text(filled('{"type":"', 'x', '"}')), 20) },
    { name: 'requests of hooks', bytes: repeat(text('{"type":"get_preferences"}'), 1500) },
    { name: 'empty fragments', bytes: Buffer.concat([frame(Opcode.text, '', { fin: false }), repeat(frame(Opcode.continuation, '', { fin: false }), 16_000)]) },
  ]
}
