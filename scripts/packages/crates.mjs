// The crates that are linked into the binary of a target, with where their sources are. From what cargo knows, offline.

import { dirname } from 'node:path'
import { run } from '../run.mjs'

/** Sorted by name; the project itself left out. */
export async function linkedCrates({ rust }) {
  const metadata = JSON.parse(await run('cargo', ['metadata', '--locked', '--offline', '--filter-platform', rust, '--format-version', '1'], { quiet: true }))
  const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]))
  const crates = new Map(metadata.packages.map((crate) => [crate.id, crate]))
  const seen = new Set()
  const visit = (id) => {
    // A macro runs in the compiler, and so does all that only it needs.
    if (seen.has(id) || crates.get(id).targets.some(({ kind }) => kind.includes('proc-macro'))) return
    seen.add(id)
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) if (kinds.some(({ kind }) => kind === null)) visit(pkg)
  }
  visit(metadata.resolve.root)
  seen.delete(metadata.resolve.root)
  return [...seen]
    .map((id) => crates.get(id))
    .map(({ name, version, license, repository, authors, manifest_path: manifest }) => ({ name, version, license, repository, authors, folder: dirname(manifest) }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1))
}
