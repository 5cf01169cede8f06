// The check of the dependencies finds what it is there for. That it finds nothing in the project is a step of `npm test`.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { ROOT } from './support/tools.mjs'

interface Crate {
  name: string
  version: string
  license?: string | null
  source?: string | null
  /** Whether only tests need it. */
  dev?: boolean
}

const { faults, isAllowed } = (await import(pathToFileURL(join(ROOT, 'scripts/deny.mjs')).href)) as {
  faults(metadata: unknown, shipped: string, toml: string): string[]
  isAllowed(expression: string, allowed: string[]): boolean
}

const TOML = readFileSync(join(ROOT, 'deny.toml'), 'utf8').replace(/^skip = .*$/m, 'skip = []')
const source = 'registry+https://github.com/rust-lang/crates.io-index'

function found(crates: Crate[], toml = TOML): string[] {
  const packages = crates.map((crate) => ({ id: `${crate.name} ${crate.version}`, license: 'MIT', source, ...crate }))
  const shipped = packages.filter(({ dev }) => !dev).map(({ name, version }) => `${name} v${version} (*)`)
  const own = { id: 'own', name: 'carillon', version: '0.0.0', license: 'MIT', source: null }
  return faults({ packages: [own, ...packages], workspace_members: ['own'] }, ['carillon v0.0.0 (/here)', ...shipped].join('\n'), toml)
}

describe('the check of the dependencies', () => {
  it('lets pass what deny.toml allows', () => {
    assert.deepEqual(found([{ name: 'ring', version: '0.17.1', license: 'Apache-2.0 AND ISC' }, { name: 'old', version: '1.0.0', license: 'MIT/GPL-3.0' }]), [])
  })

  it('finds licences, sources, duplicates and denied crates', () => {
    const crates: Array<[Crate[], RegExp]> = [
      [[{ name: 'a', version: '1.0.0', license: 'GPL-3.0-only' }], /^a 1\.0\.0 has the licence GPL-3\.0-only/],
      [[{ name: 'a', version: '1.0.0', license: null }], /names no licence/],
      [[{ name: 'a', version: '1.0.0', source: 'git+https://example.org/a' }], /not from crates\.io/],
      [[{ name: 'a', version: '1.0.0', source: null }], /from a folder/],
      [[{ name: 'rsa', version: '0.9.10' }], /^rsa 0\.9\.10 is denied/],
      [[{ name: 'rsa', version: '0.9.10', dev: true }], /^rsa 0\.9\.10 is denied/],
      [[{ name: 'a', version: '1.0.0' }, { name: 'a', version: '2.0.0' }], /^a is there 2 times: 1\.0\.0, 2\.0\.0$/],
    ]
    for (const [given, expected] of crates) {
      const [fault, ...more] = found(given)
      assert.match(fault ?? 'nothing', expected)
      assert.deepEqual(more, [])
    }
  })

  it('allows two versions where deny.toml says so, or where one is for tests alone', () => {
    const twice = [{ name: 'a', version: '1.2.3' }, { name: 'a', version: '2.0.0' }]
    assert.deepEqual(found(twice, TOML.replace('skip = []', 'skip = ["a@1.2"]')), [])
    assert.match(found(twice, TOML.replace('skip = []', 'skip = ["a@1.20", "a@2"]'))[0] ?? 'nothing', /a@1\.20 is skipped, but not there/)
    assert.deepEqual(found([{ name: 'a', version: '1.0.0' }, { name: 'a', version: '2.0.0', dev: true }]), [])
  })

  it('reads licence expressions', () => {
    const allowed = ['MIT', 'ISC', 'Apache-2.0 WITH LLVM-exception']
    for (const [expression, expected] of [
      ['MIT', true],
      ['GPL-3.0', false],
      ['MIT OR GPL-3.0', true],
      ['GPL-3.0 OR MIT', true],
      ['MIT AND GPL-3.0', false],
      ['MIT AND ISC', true],
      ['GPL-3.0 OR (MIT AND ISC)', true],
      ['(GPL-3.0 OR MIT) AND GPL-2.0', false],
      ['MIT/GPL-3.0', true],
      ['Apache-2.0 WITH LLVM-exception', true],
      ['Apache-2.0', false],
      ['MIT)', false],
      ['', false],
    ] as const) {
      assert.equal(isAllowed(expression, allowed), expected, expression)
    }
  })
})
