// Tokens as an application issues them, and as an attacker without its key might.

import jwt, { type SignOptions } from 'jsonwebtoken'

export const SECRET = 'the secret of the test suite, long enough for HS512 as well: 0123456789abcdef'

export interface TokenOptions extends SignOptions {
  key?: string | Buffer
  claims?: Record<string, unknown>
}

/** Valid for a day, signed with the suite's secret, unless said otherwise. */
export function tokenOf(user: string | number, { key = SECRET, claims = {}, ...options }: TokenOptions = {}): string {
  const payload = { user_id: user, email: `${user}@example.org`, ...claims }
  const lifetime = 'exp' in claims || 'expiresIn' in options ? {} : { expiresIn: 86_400 }
  return jwt.sign(payload, key, { algorithm: 'HS256', ...lifetime, ...options })
}

export function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

export const now = (): number => Math.floor(Date.now() / 1000)
