// `npm run docs:api`: the reference of the API, as pages made of index.d.ts, into target/api. TypeDoc is fetched from npm, at the
// versions below: it needs an older TypeScript than the project.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { ROOT, main, npm, run } from './run.mjs'

const VERSIONS = { typedoc: '0.28.20', typescript: '5.9.3' }
const HOME = `${ROOT}target/typedoc`

/** Fails if anything that is exported refers to something that is not. */
export async function buildReference(out = `${ROOT}target/api`) {
  const program = `${HOME}/node_modules/typedoc/bin/typedoc`
  if (!existsSync(program)) {
    const wanted = Object.entries(VERSIONS).map(([name, version]) => `${name}@${version}`)
    await npm(['install', '--prefix', HOME, '--no-save', '--no-package-lock', '--no-audit', '--no-fund', '--loglevel=error', ...wanted])
  }
  mkdirSync(HOME, { recursive: true })
  const compilerOptions = { module: 'nodenext', target: 'es2023', strict: true, types: ['node'], typeRoots: [`${ROOT}node_modules/@types`] }
  writeFileSync(`${HOME}/tsconfig.json`, JSON.stringify({ compilerOptions, files: [`${ROOT}index.d.ts`] }))
  const options = ['--tsconfig', `${HOME}/tsconfig.json`, '--entryPoints', `${ROOT}index.d.ts`, '--out', out, '--name', 'Carillon', '--readme', 'none']
  await run(process.execPath, [program, ...options, '--disableSources', '--excludeExternals', '--treatWarningsAsErrors'])
  return out
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => console.log(`The reference is in ${await buildReference()}`))
}
