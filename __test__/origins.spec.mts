// Origins that no browser sends would refuse every page: they are an error when the options are read.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { WebSocketService } from 'carillon'
import { TestServer, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

describe('allowedOrigins', () => {
  for (const origin of ['https://a/', 'a.example', 'https://A.example', 'https://a.example:443', 'https://*.example', 'https://a.example/app', '']) {
    it(`does not take ${JSON.stringify(origin)}`, () => {
      assert.throws(() => new WebSocketService({ allowedOrigins: ['https://fine.example', origin] }), {
        name: 'TypeError',
        code: 'ERR_INVALID_OPTION',
        message: /^allowedOrigins: .*browsers/,
      })
    })
  }

  for (const origin of ['https://a.example', 'http://localhost:3000', 'https://[::1]:8443', 'null', 'file://', 'chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai']) {
    it(`lets a page of ${origin} in`, async (test) => {
      const site = await TestServer.open(test, { allowedOrigins: [origin] })
      const status = async (sent: string): Promise<number> => (await site.requestUpgrade({ ...withToken(tokenOf('ann')), headers: { Origin: sent } })).response.status
      assert.equal(await status(origin), 101)
      assert.equal(await status(`${origin}x`), 403)
    })
  }
})
