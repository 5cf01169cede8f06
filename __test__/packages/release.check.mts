// A release as a maintainer makes it, into a registry on loopback: what is published in which order, and what a second try does.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { NAMES, PACKED, emptyRegistry, into, publish, script, type Registry } from './support.mjs'

const { tagOf } = await script<{ tagOf(version: string): string }>('publish')
const MAIN = 'carillon'

describe('publishing', () => {
  it('brings every package, the one that needs the others last', async (test) => {
    const registry = await opened(test)
    const published = await publish(PACKED, into(registry))
    assert.deepEqual([...published].sort(), [MAIN, 'carillon-client', ...NAMES.map((name) => `carillon-${name}`)].sort())
    assert.equal(published.at(-1), MAIN)
    assert.deepEqual(registry.requests.filter((request) => request.startsWith('PUT ')), published.map((name) => `PUT /${name}`))
    for (const { name, version } of PACKED) {
      const metadata = registry.metadata(name)
      assert.deepEqual(metadata?.['dist-tags'], { latest: version }, name)
      const { repository, license } = metadata?.versions[version] ?? {}
      assert.match((repository as { url: string }).url, /^git\+https:\/\/github\.com\/carillon-ws\/carillon\.git$/)
      assert.equal(license, 'MIT')
    }
  })

  it('asks for every binary at exactly its own version, and for nothing else', async (test) => {
    const registry = await opened(test)
    await publish(PACKED, into(registry))
    const [version, manifest] = Object.entries(registry.metadata(MAIN)?.versions ?? {})[0] ?? []
    assert.deepEqual(manifest?.['optionalDependencies'], Object.fromEntries(NAMES.map((name) => [`carillon-${name}`, version])))
    for (const member of ['dependencies', 'devDependencies', 'scripts', 'workspaces']) {
      assert.deepEqual(manifest?.[member] ?? {}, {}, member)
    }
  })

  it('continues after an interruption with what is not there yet', async (test) => {
    const registry = await opened(test)
    const first = PACKED.filter(({ name }) => name !== MAIN)
    await publish(first, into(registry))
    assert.deepEqual(await publish(PACKED, into(registry)), [MAIN])
    assert.deepEqual(await publish(PACKED, into(registry)), [])
  })

  it('fails where the registry refuses, and leaves the package itself unpublished', async (test) => {
    const registry = await opened(test)
    const refused = PACKED.map((one, index) => (index === 0 ? { ...one, path: `${one.path}.gone` } : one))
    await assert.rejects(publish(refused, into(registry)), /npm.* publish .*\.gone/)
    assert.equal(registry.metadata(MAIN), undefined)
  })

  it('keeps versions with a pre-release part from being installed unasked', () => {
    assert.deepEqual(['1.2.3', '1.2.3-beta.1', '0.2.0-rc.0'].map(tagOf), ['latest', 'next', 'next'])
  })
})

async function opened(test: { after(action: () => unknown): void }): Promise<Registry> {
  const registry = await emptyRegistry()
  test.after(() => registry.stop())
  return registry
}
