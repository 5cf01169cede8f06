// Publishes packed packages: those of the binaries first, the package itself last, so that no version of it is ever without its
// binaries. What was published before is left alone, so that a release that was interrupted can be continued.

import { CommandFailed, npm } from '../run.mjs'

/** Versions with a pre-release part must not become what `npm install carillon` brings. */
export function tagOf(version) {
  return version.includes('-') ? 'next' : 'latest'
}

/**
 * Takes what `pack()` resolves with. `options` go to npm as they are: the token, `--provenance`.
 * Resolves with the names of what was published now.
 */
export async function publish(packed, { registry, options = [] }) {
  const main = packed.filter(({ name }) => name === 'carillon')
  const published = []
  for (const { name, version, path } of [...packed.filter((one) => !main.includes(one)), ...main]) {
    if (await isPublished(name, version, registry)) {
      console.log(`${name}@${version} was published before`)
      continue
    }
    await npm(['publish', path, '--access', 'public', '--tag', tagOf(version), '--loglevel=error', `--registry=${registry}`, ...options])
    published.push(name)
  }
  return published
}

async function isPublished(name, version, registry) {
  const response = await fetch(new URL(name, registry))
  if (response.status === 404) return false
  if (!response.ok) throw new CommandFailed(`the registry answered ${response.status} when asked for ${name}`)
  return Object.hasOwn((await response.json()).versions ?? {}, version)
}
