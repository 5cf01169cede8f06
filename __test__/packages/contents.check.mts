// What is in each package, and that its binary suits every system of its target.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ROOT, TRIPLE } from '../support/tools.mjs'
import { PACKAGES, QUICK, TARGETS, packedAs, script, temporary, type Target } from './support.mjs'

const { faults } = await script<{ faults(path: string, target: Target): Promise<string[]> }>('inspect')
const { linkedCrates } = await script<{ linkedCrates(target: Target): Promise<{ name: string; version: string }[]> }>('crates')
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }

for (const target of TARGETS) {
  describe(`the package of ${target.name}`, () => {
    const folder = join(PACKAGES, target.name)
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>

    it('says for which system it is', () => {
      const { name, os, cpu, libc, main } = manifest
      assert.deepEqual({ name, os, cpu, libc, main }, {
        name: `carillon-${target.name}`,
        os: [target.os],
        cpu: [target.cpu],
        libc: target.libc && [target.libc],
        main: target.binary,
      })
      assert.equal(manifest['version'], version)
    })

    it('holds the binary and its licences, and nothing else', () => {
      const files = packedAs(target.package).files.map(({ path }) => path)
      assert.deepEqual(files.sort(), ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES.txt', target.binary, 'package.json'].sort())
    })

    it('names every crate that is linked, with its licence', async () => {
      const notices = readFileSync(join(folder, 'THIRD-PARTY-NOTICES.txt'), 'utf8')
      const crates = await linkedCrates(target)
      assert.ok(crates.length > 50, `only ${crates.length} crates`)
      // Once in the list, and once above a text.
      const missing = crates.filter(({ name, version }) => notices.split(`${name} ${version}`).length < 3)
      assert.deepEqual(missing.map(({ name }) => name), [])
      for (const name of ['ring', 'tokio', 'napi', 'rustls']) assert.ok(crates.some((crate) => crate.name === name), name)
      assert.ok(!crates.some(({ name }) => name === 'syn'), 'what only the compiler ran is not linked')
    })

    it('runs on every system of its target and tells nothing of the machine that built it', { skip: QUICK }, async () => {
      assert.deepEqual(await faults(join(folder, target.binary), target), [])
    })
  })
}

describe('the inspection of a binary', { skip: process.platform !== 'linux' }, () => {
  const [own] = TARGETS.filter(({ name }) => name === TRIPLE)
  const addon = own && join(PACKAGES, own.name, own.binary)

  it('finds paths, test code, a foreign architecture and a foreign C library', async (test) => {
    if (own === undefined || addon === undefined) return test.skip('no binary for this machine')
    const folder = temporary(test, 'inspection')
    const contents = readFileSync(addon)
    const altered = async (change: (copy: Buffer) => Buffer | void, target = own): Promise<string> => {
      const copy = Buffer.from(contents)
      const path = join(folder, 'altered.node')
      writeFileSync(path, change(copy) ?? copy)
      return (await faults(path, target)).join('\n')
    }
    const clean = await altered(() => {})
    const appended = (text: string) => (copy: Buffer): Buffer => Buffer.concat([copy, Buffer.from(text)])
    assert.match(await altered(appended(join(ROOT, 'src/lib.rs'))), new RegExp(`it holds the path ${ROOT}`))
    assert.match(await altered(appended('\0/home/builder/x\0')), /it holds the path \/home\/builder/)
    assert.match(await altered(appended('CARILLON_TEST_PANIC')), /built with debug assertions/)
    assert.match(await altered((copy) => void copy.writeUInt16LE(2, 18)), /its machine is 2, not \d+/)
    assert.match(await altered((copy) => void copy.write('\x7fELG')), /it is no ELF file/)
    const other = own.libc === 'glibc' ? 'musl' : 'glibc'
    assert.match(await altered(() => {}, { ...own, libc: other }), other === 'musl' ? /it needs glibc 2\./ : /it names no version of glibc/)
    if (QUICK && own.libc === 'glibc') assert.match(clean, /built with debug assertions/)
    if (!QUICK) assert.equal(clean, '')
  })
})

it('the package of the client is whole', () => {
  const files = packedAs('carillon-client').files.map(({ path }) => path)
  for (const name of ['LICENSE', 'README.md', 'package.json', 'dist/esm/index.js', 'dist/esm/index.d.ts', 'dist/cjs/index.js', 'dist/esm/react.js']) {
    assert.ok(files.includes(name), `${name} is missing`)
  }
  assert.ok(files.every((name) => !name.startsWith('src/') && !name.includes('test')), files.join(', '))
})
