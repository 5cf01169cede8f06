// What the checks of the packages share: the packed packages, a registry that has them, and the scripts that make them.

import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { ROOT } from '../support/tools.mjs'

export interface Target {
  name: string
  rust: string
  os: string
  cpu: string
  libc?: 'glibc' | 'musl'
  binary: string
  package: string
}

export interface Packed {
  name: string
  version: string
  path: string
  files: { path: string }[]
}

export interface Registry {
  url: string
  token: string
  requests: string[]
  metadata(name: string): { 'dist-tags': Record<string, string>; versions: Record<string, Record<string, unknown>> } | undefined
  stop(): Promise<void>
}

interface Scope {
  after(action: () => unknown): void
}

/** What is under test, from `scripts/packages/test-packages.mjs`. */
export const { names: NAMES, quick: QUICK, packages: PACKAGES, tarballs: TARBALLS } = JSON.parse(process.env['CARILLON_PACKAGES'] ?? '{}') as {
  names: string[]
  /** Whether the binary is that of the tests, and not one to publish. */
  quick: boolean
  packages: string
  tarballs: string
}

export const PACKED = JSON.parse(readFileSync(join(TARBALLS, 'packed.json'), 'utf8')) as Packed[]
export const execute = promisify(execFile)

/** A module of scripts/packages. */
export function script<Exports>(name: string): Promise<Exports> {
  return import(pathToFileURL(join(ROOT, 'scripts/packages', `${name}.mjs`)).href) as Promise<Exports>
}

const { target } = await script<{ target(name: string): Target }>('targets')
const { LoopbackRegistry } = await script<{ LoopbackRegistry: { start(): Promise<Registry> } }>('registry')
const { publish } = await script<{ publish(packed: Packed[], to: { registry: string; options?: string[] }): Promise<string[]> }>('publish')

export const TARGETS = NAMES.map(target)
export { publish }

export async function emptyRegistry(): Promise<Registry> {
  return LoopbackRegistry.start()
}

/** How `publish` gets into it. */
export function into(registry: Registry): { registry: string; options: string[] } {
  return { registry: registry.url, options: [`--${registry.token}`] }
}

export function temporary(test: Scope, purpose: string): string {
  const folder = mkdtempSync(join(tmpdir(), `carillon-${purpose}-`))
  test.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The smoke test as a single file of `folder`. */
export function putSmoke(folder: string): string {
  copyFileSync(join(TARBALLS, 'smoke.mjs'), join(folder, 'smoke.mjs'))
  return join(folder, 'smoke.mjs')
}

/** Puts packed packages where an installer would put them. */
export async function unpackInto(folder: string, packed: Packed[]): Promise<void> {
  for (const { name, path } of packed) {
    const home = join(folder, 'node_modules', name)
    mkdirSync(home, { recursive: true })
    await execute('tar', ['--extract', '--gzip', '--strip-components=1', '--file', path, '--directory', home])
  }
}

export function packedAs(name: string): Packed {
  const found = PACKED.find((one) => one.name === name)
  if (!found) throw new Error(`${name} was not packed`)
  return found
}
