// Node's release lines: their binaries come from npm on demand, into a folder that later runs find again.

import { existsSync } from 'node:fs'
import { MANDATORY, ROOT, npm } from './tools.mjs'

export const SUPPORTED = [20, 22, 24, 26]

/** The path of a Node of this release line. Where it cannot be fetched, `undefined`; on CI that is an error. */
export async function nodeBinary(major: number): Promise<string | undefined> {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath
  const windows = process.platform === 'win32'
  const name = `node-${windows ? 'win' : process.platform}-${process.arch}`
  const folder = `${ROOT}/target/node-versions/${major}`
  const binary = `${folder}/node_modules/${name}/bin/node${windows ? '.exe' : ''}`
  if (!existsSync(binary)) {
    await npm(['install', '--prefix', folder, '--no-save', '--no-package-lock', `${name}@${major}`]).catch(() => {})
  }
  if (existsSync(binary)) return binary
  if (MANDATORY) throw new Error(`Node ${major} could not be fetched from npm`)
  return undefined
}
