// CHANGELOG.md, in the form of Keep a Changelog. `npm run changes -- 0.2.0` prints the part about a version.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main } from '../run.mjs'

/** The part about a version: its date, or `Unreleased`, and what changed. */
export function changesOf(version, text = readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8')) {
  const [, ...parts] = text.split(/^## /m)
  for (const part of parts) {
    const [heading, ...lines] = part.split('\n')
    const found = /^\[(.+)\] - (\d{4}-\d\d-\d\d|Unreleased)$/.exec(heading)
    if (found?.[1] === version) return { date: found[2], changes: lines.filter((line) => !/^\[.+\]: /.test(line)).join('\n').trim() }
  }
  throw new CommandFailed(`CHANGELOG.md has no part "## [${version}] - date"`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => console.log(changesOf(process.argv[2] ?? '').changes))
}
