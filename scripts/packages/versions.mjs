// One version for the package, its binaries, the crate and the client. `npm run version:set -- 0.3.0` writes it everywhere.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main } from '../run.mjs'

/** Each place once: what stands before the version, and after it. The binaries take theirs from package.json. */
const PLACES = [
  ['package.json', /(^ {2}"version": ")([^"]+)(")/m],
  ['client/package.json', /(^ {2}"version": ")([^"]+)(")/m],
  ['Cargo.toml', /(^name = "carillon"\nversion = ")([^"]+)(")/m],
  ['Cargo.lock', /(^name = "carillon"\nversion = ")([^"]+)(")/m],
  ['fuzz/Cargo.lock', /(^name = "carillon"\nversion = ")([^"]+)(")/m],
  ['package-lock.json', /(^ {2}"version": ")([^"]+)(")/m],
  ['package-lock.json', /(^ {4}"": \{\n {6}"name": "carillon",\n {6}"version": ")([^"]+)(")/m],
  ['package-lock.json', /(^ {4}"client": \{\n {6}"name": "carillon-client",\n {6}"version": ")([^"]+)(")/m],
]

/** As semver has it, without build metadata: npm drops that. */
const VERSION = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/

/** Every place with the version it holds. */
export function versions(root = ROOT) {
  return PLACES.map(([path, pattern]) => {
    const found = pattern.exec(read(root, path))
    if (!found) throw new CommandFailed(`${path} holds no version where ${pattern} looks for it`)
    return { path, version: found[2] }
  })
}

export function setVersion(version, root = ROOT) {
  if (!VERSION.test(version)) throw new CommandFailed(`${version} is no version`)
  versions(root)
  for (const [path, pattern] of PLACES) writeFileSync(join(root, path), read(root, path).replace(pattern, `$1${version}$3`))
}

function read(root, path) {
  return readFileSync(join(root, path), 'utf8')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => {
    setVersion(process.argv[2] ?? '')
    console.log(versions().map(({ path, version }) => `${version}  ${path}`).join('\n'))
  })
}
