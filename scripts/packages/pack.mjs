// What `npm pack` makes of the assembled folders, and how large it is.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailed, npm } from '../run.mjs'
import { TARBALLS } from './places.mjs'

/** Packs folders into `into`; resolves with what npm says of each: `name`, `filename`, `path`, `size`, `unpackedSize`, `files`. */
export async function pack(folders, into = TARBALLS) {
  rmSync(into, { recursive: true, force: true })
  mkdirSync(into, { recursive: true })
  const printed = await npm(['pack', '--json', '--loglevel=error', '--pack-destination', into, ...folders], { quiet: true })
  const packed = listed(JSON.parse(printed))
  if (packed.length !== folders.length) throw new CommandFailed(`npm packed ${packed.length} of ${folders.length} folders`)
  return packed.map((one) => ({ ...one, path: join(into, one.filename) }))
}

export function printSizes(packed) {
  const kilobytes = (bytes) => `${Math.round(bytes / 1000).toLocaleString('en')} kB`.padStart(10)
  console.log(`\n${'packed'.padStart(10)}${'unpacked'.padStart(12)}  package`)
  for (const { size, unpackedSize, filename } of packed) console.log(`${kilobytes(size)}  ${kilobytes(unpackedSize)}  ${filename}`)
}

/** npm 12 lists them by their names, those before in a list. */
function listed(report) {
  return Array.isArray(report) ? report : Object.values(report)
}
