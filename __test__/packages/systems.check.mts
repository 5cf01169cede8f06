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

/** In this test the service resets peers, which must have connected by then: emulated ones are too slow. */
const NOT_EMULATED = 'has no descriptor left'
/** How many times longer a test may wait on an emulated processor, which other work may slow down further. */
const SLOWNESS = 10

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

    for (const name of target.os !== 'linux' ? [] : emulated ? EMULATED : MAIN) {
      it(`passes the tests of ${name}`, { skip }, async () => {
        assert.equal(missing, undefined)
        const { node, env } = await nodeOf(target)
        const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
        const binary = join(PACKAGES, target.name, target.binary)
        // Not by the runner, which would be a second process to emulate.
        const skipped = emulated ? [`--test-skip-pattern=${NOT_EMULATED}`] : []
        const output = await execute(node, ['--test-reporter=tap', ...skipped, join(ROOT, 'target/js-test', `${name}.spec.mjs`)], {
          cwd: ROOT,
          env: { ...inherited, ...env, NAPI_RS_NATIVE_LIBRARY_PATH: binary, CARILLON_TEST_SLOWNESS: String(emulated ? SLOWNESS : 1) },
          maxBuffer: 256 * 1024 * 1024,
        }).then(({ stdout }) => stdout, ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr)
        const counted = (word: string): number => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(output)?.[1] ?? -1)
        assert.deepEqual([counted('fail'), counted('cancelled')], [0, 0], failuresIn(output))
        assert.ok(counted('pass') >= 5, output)
        console.log(`${target.name}, ${name}: ${counted('pass')} tests passed`)
      })
    }
  })
}

/** The parts of a report in TAP that tell of a failure. */
function failuresIn(output: string): string {
  return output.split(/^(?= *(?:not )?ok \d+)/m).filter((part) => /^ *not ok/.test(part)).join('') || output
}

if (QUICK) it('the binaries of other systems', { skip: 'they are tested by npm run test:packages' }, () => {})
