// The certificate in tls/, for servers whose clients do not look at it.

import { readFileSync } from 'node:fs'
import { ROOT } from './tools.mjs'

const read = (name: string): Buffer => readFileSync(`${ROOT}/__test__/support/tls/${name}.pem`)

export const CERTIFICATE = { cert: read('cert'), key: read('key') }

/** For clients of it. */
export const TRUSTING = { rejectUnauthorized: false }
