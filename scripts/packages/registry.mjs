// A registry of npm packages in memory, on loopback: what a package manager needs to publish into and install from, and no more.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'

/** Package managers may refuse what was published within the last days. */
const PUBLISHED = '2020-01-01T00:00:00.000Z'

export class LoopbackRegistry {
  /** Every request as `METHOD path`, in order. */
  requests = []
  #packages = new Map()
  #tarballs = new Map()
  #server

  static async start() {
    const registry = new LoopbackRegistry()
    registry.#server = createServer((request, response) => registry.#answer(request, response))
    registry.#server.listen(0, '127.0.0.1')
    await once(registry.#server, 'listening')
    return registry
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/`
  }

  /** What npm wants to have in its configuration before it publishes. */
  get token() {
    return `${this.url.replace('http:', '')}:_authToken=loopback`
  }

  /** Metadata as the registry would answer; undefined for a package that was not published. */
  metadata(name) {
    return this.#packages.get(name)
  }

  async stop() {
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  async #answer(request, response) {
    this.requests.push(`${request.method} ${request.url}`)
    const [, name, ...rest] = decodeURIComponent(new URL(request.url, this.url).pathname).split('/')
    const tarball = this.#tarballs.get(rest.at(-1))
    if (request.method === 'PUT') return this.#publish(name, JSON.parse(await bodyOf(request)), response)
    if (request.method !== 'GET') return send(response, 405, { error: 'method not allowed' })
    if (rest[0] === '-' && tarball) return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(tarball)
    const found = this.#packages.get(name)
    if (!found) return send(response, 404, { error: 'not found' })
    const [version] = rest
    return send(response, 200, version === undefined ? found : found.versions[found['dist-tags'][version] ?? version])
  }

  #publish(name, document, response) {
    const known = this.#packages.get(name) ?? { name, 'dist-tags': {}, versions: {}, time: { created: PUBLISHED, modified: PUBLISHED } }
    for (const [version, manifest] of Object.entries(document.versions)) {
      if (known.versions[version]) return send(response, 403, { error: `${name}@${version} was published before` })
      const [[file, { data }]] = Object.entries(document._attachments)
      const tarball = Buffer.from(data, 'base64')
      const hash = (algorithm, encoding) => createHash(algorithm).update(tarball).digest(encoding)
      const dist = { tarball: `${this.url}${name}/-/${file}`, shasum: hash('sha1', 'hex'), integrity: `sha512-${hash('sha512', 'base64')}` }
      if (manifest.dist.integrity !== dist.integrity) return send(response, 400, { error: `${file} is not what its hash says` })
      this.#tarballs.set(file, tarball)
      known.versions[version] = { ...manifest, dist }
      known.time[version] = PUBLISHED
    }
    Object.assign(known['dist-tags'], document['dist-tags'])
    this.#packages.set(name, known)
    send(response, 201, { ok: true })
  }
}

async function bodyOf(request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function send(response, status, contents) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(contents))
}
