// Each Linux binary in a Node of its own system: as an installed package, and in the main tests.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { MANDATORY, ROOT } from '../support/tools.mjs'
import { PACKAGES, QUICK, TARGETS, execute, packedAs, putSmoke, script, temporary, unpackInto, type Target } from './support.mjs'

const { missingFor, nodeOf } = await script<{
  missingFor(target: Target): string | undefined
  nodeOf(target: Target): Promise<{ node: string; env: NodeJS.ProcessEnv }>
}>('systems')

/** Sockets taken over and own ports, protocol, subscriptions, hooks and shutdown: what differs with a C library or an architecture. */
const MAIN = ['attach', 'auth', 'bridge', 'delivery', 'events', 'handshake', 'hooks', 'lifecycle', 'listen', 'messages', 'publishing']
/** Of these, what an emulated processor, ten times slower, runs in reasonable time. */
const EMULATED = ['attach', 'bridge', 'hooks', 'listen', 'lifecycle', 'publishing']

for (const target of QUICK ? [] : TARGETS) {
  describe(`the binary of ${target.name}`, { timeout: 1_800_000 }, () => {
    const missing = missingFor(target)
    // What a machine cannot run it skips; CI must be able to.
    const skip = missing !== undefined && !MANDATORY && `it needs ${missing}`
    const emulated = target.cpu !== process.arch

    it('is found, loads and works', { skip }, async (test) => {
      assert.equal(missing, undefined)
      const folder = temporary(test, target.name)
      await unpackInto(folder, [packedAs('carillon'), packedAs(target.package)])
      const { node, env } = await nodeOf(target)
      const { stdout } = await execute(node, [putSmoke(folder)], { cwd: folder, env: { ...process.env, ...env }, timeout: 300_000 })
      assert.match(stdout, /smoke passed on Node v/)
    })

    it('passes the main tests', { skip: target.os === 'linux' ? skip : 'only Linux is tested this far' }, async () => {
      assert.equal(missing, undefined)
      const { node, env } = await nodeOf(target)
      const files = (emulated ? EMULATED : MAIN).map((name) => join(ROOT, 'target/js-test', `${name}.spec.mjs`))
      const options = ['--test', '--test-reporter=tap', '--test-concurrency=1', '--test-timeout=600000']
      const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
      const binary = join(PACKAGES, target.name, target.binary)
      const output = await execute(node, [...options, ...files], {
        cwd: ROOT,
        env: { ...inherited, ...env, NAPI_RS_NATIVE_LIBRARY_PATH: binary },
        maxBuffer: 256 * 1024 * 1024,
      }).then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => stdout)
      const failed = [...output.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, name]) => name)
      assert.deepEqual(failed, [])
      const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1] ?? 0)
      assert.ok(passed >= 20 * files.length / 2, `only ${passed} tests passed:\n${output.slice(-2000)}`)
      console.log(`${target.name}: ${passed} tests of ${files.length} files passed on ${emulated ? 'an emulated processor' : 'this machine'}`)
    })
  })
}

if (QUICK) it('the binaries of other systems', { skip: 'they are tested by npm run test:packages' }, () => {})
