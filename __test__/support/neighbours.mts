// Libraries that listen to upgrade requests on the same server as ours, installed when a test asks for them: they are large.

import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { ROOT, npm } from './tools.mjs'

/** Where they are installed: a copy of `neighbours/`, kept by later runs. */
export const NEIGHBOURS = `${ROOT}/target/neighbours`

/** Why they are missing, if they are. */
export async function install(): Promise<string | undefined> {
  const source = `${ROOT}/__test__/neighbours`
  const lock = createHash('sha256').update(readFileSync(`${source}/package-lock.json`)).digest('hex')
  const stamp = `${NEIGHBOURS}/node_modules/.installed-from`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return undefined
  mkdirSync(NEIGHBOURS, { recursive: true })
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(`${source}/${name}`, `${NEIGHBOURS}/${name}`)
  try {
    await npm(['ci'], NEIGHBOURS, 600_000)
  } catch (error) {
    return `the libraries could not be installed from npm: ${(error as Error).message.split('\n')[0]}`
  }
  writeFileSync(stamp, lock)
  return undefined
}

/** A module of theirs. What it exports is known to the test, not to the compiler. */
export async function neighbour(name: string): Promise<any> {
  const path = createRequire(`${NEIGHBOURS}/package.json`).resolve(name)
  return import(pathToFileURL(path).href)
}
