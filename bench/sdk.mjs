// What a user of the official SDK waits for. Prints rows of times as JSON.
// 'Time to interactive' is the measure of ComputeSDK's daily benchmark: create,
// then `node -v` to its answer; the kill is not timed.
import { createRequire } from 'node:module'
const { Sandbox } = createRequire(new URL('../e2e/js/package.json', import.meta.url))('e2b')

const rows = []
const now = () => performance.now()

async function interactive() {
  const start = now()
  const sandbox = await Sandbox.create({ timeoutMs: 300_000 })
  try {
    await sandbox.commands.run('node -v')
    return now() - start
  } finally {
    await sandbox.kill()
  }
}

async function row(Name, n, spread) {
  const Times = []
  let Failed = 0
  const one = () => interactive().then((ms) => Times.push(ms), () => Failed++)
  await spread(n, one)
  rows.push({ Name, Times, Failed })
}

const sequential = async (n, one) => { for (let i = 0; i < n; i++) await one() }
const staggered = (n, one) =>
  Promise.all(Array.from({ length: n }, (_, i) => new Promise((resolve) => setTimeout(() => one().then(resolve), i * 200))))
const burst = (n, one) => Promise.all(Array.from({ length: n }, one))

// The phases, each a process of its own, so that what each costs the server is told apart.
const phases = {
  'one after the other': () => row('time to interactive, one after the other', 100, sequential),
  staggered: () => row('time to interactive, 200 ms between', 100, staggered),
  'all at once': () => row('time to interactive, all at once', 100, burst),
  async commands() {
    const first = []
    for (let i = 0; i < 20; i++) {
      const sandbox = await Sandbox.create({ timeoutMs: 300_000 })
      const start = now()
      await sandbox.commands.run('true')
      first.push(now() - start)
      await sandbox.kill()
    }
    rows.push({ Name: 'first commands.run in a new sandbox', Times: first, Failed: 0 })

    const sandbox = await Sandbox.create({ timeoutMs: 300_000 })
    const again = []
    for (let i = 0; i < 200; i++) {
      const start = now()
      await sandbox.commands.run('true')
      again.push(now() - start)
    }
    rows.push({ Name: 'commands.run, round trip', Times: again, Failed: 0 })
    await sandbox.kill()
  },
}

await interactive() // warm
await phases[process.argv[2]]()
console.log(JSON.stringify(rows))
