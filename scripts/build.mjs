// Builds the addon for this machine, and with it index.js and index.d.ts. `--release` as published, otherwise quickly.

import { pathToFileURL } from 'node:url'
import { main, tool } from './run.mjs'

export function build({ release = false } = {}) {
  const profile = release ? ['--release'] : ['--profile', 'quick']
  return tool('@napi-rs/cli/dist/cli.js', ['build', '--platform', ...profile, '--', '--locked'])
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { ensureDependencies } = await import('./setup.mjs')
  await main(async () => {
    await ensureDependencies()
    await build({ release: process.argv.includes('--release') })
  })
}
