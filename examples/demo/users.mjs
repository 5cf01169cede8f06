// The people who can log in, and the crowd of simulated readers.

export const users = [
  { id: 'amina', name: 'Amina Yusuf', role: 'Clerk of the Assembly', hue: 265 },
  { id: 'jonas', name: 'Jonas Lindqvist', role: 'Journalist', hue: 205 },
  { id: 'grace', name: 'Grace Okafor', role: 'Member for Riverside', hue: 150 },
  { id: 'mateo', name: 'Mateo Rossi', role: 'Student', hue: 30 },
  { id: 'priya', name: 'Priya Nair', role: 'Policy analyst', hue: 330 },
  { id: 'tom', name: 'Tom Achieng', role: 'Citizen', hue: 95 },
]

const byId = new Map(users.map((user) => [user.id, user]))

/** What the live service asks before it lets a token in: does this user exist? */
export async function findUser(userId) {
  return byId.get(userId) ?? (/^reader-\d{1,4}$/.test(userId) ? { id: userId, name: 'A reader', role: 'Reader' } : undefined)
}

export const memberById = (userId) => byId.get(userId)
