// The example is complete.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeServer, listen } from '../support/server.mjs'
import { tokenOf } from '../support/token.mjs'
import { Client } from '../support/client.mjs'

// example

// check
