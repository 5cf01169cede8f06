// Packages that only a test needs and that are large: fetched from npm on demand, at these exact versions, into a folder that later
// runs find again.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MANDATORY, ROOT, npm } from './tools.mjs'

/** The folder whose node_modules holds them. Where they cannot be fetched, `undefined`; on CI that is an error. */
export async function fetchedPackages(versions: Record<string, string>): Promise<string | undefined> {
  const wanted = Object.entries(versions).map(([name, version]) => `${name}@${version}`)
  const folder = join(ROOT, 'target/test-packages', wanted.join('+').replaceAll('/', '-'))
  const isThere = (): boolean => Object.keys(versions).every((name) => existsSync(join(folder, 'node_modules', name, 'package.json')))
  if (!isThere()) {
    await npm(['install', '--prefix', folder, '--no-save', '--no-package-lock', ...wanted]).catch((error: Error) => {
      if (MANDATORY) throw error
    })
  }
  return isThere() ? folder : undefined
}
