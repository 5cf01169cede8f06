// The certificate of all servers under test, if BENCH_TLS is on. The generator does not check it.

import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'

const read = (name) => readFileSync(new URL(`../../__test__/support/tls/${name}`, import.meta.url), 'utf8')

/** Undefined without TLS. */
export const tls = process.env.BENCH_TLS === 'on' ? { cert: read('cert.pem'), key: read('key.pem') } : undefined

export const createServer = () => (tls ? https.createServer(tls) : http.createServer())
