// The program of a page runs in a process of its own and listens on `port`; `ann` is connected to it.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Client } from '../support/client.mjs'
import { tokenOf } from '../support/token.mjs'

const port = Number(process.argv[2])
const secure = process.argv[3] === 'tls'
const base = `${secure ? 'wss' : 'ws'}://127.0.0.1:${port}`
const ann = await Client.open(`${base}/ws?token=${tokenOf('ann')}`, [], { rejectUnauthorized: false })
const get = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } })

// check

ann.socket.terminate()
