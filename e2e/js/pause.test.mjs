// Pausing and resuming by the official SDK, unmodified: see sandbox.test.mjs.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NotFoundError, Sandbox } from 'e2b'

const bootID = async (sandbox) => (await sandbox.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout

// A server that says its process id and how often it was asked.
const counter = `import http.server, os
n = 0
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global n
        n += 1
        self.send_response(200); self.end_headers()
        self.wfile.write(f"{os.getpid()} {n}".encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", 8000), H).serve_forever()
`

const ask = (sandbox) =>
  fetch(process.env.E2B_SANDBOX_URL, { headers: { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '8000' } })

// listening waits until the counter answers and returns what it says.
async function listening(sandbox) {
  for (let i = 0; i < 300; i++) {
    const answer = await ask(sandbox)
    if (answer.ok) return answer.text()
    await answer.text()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert.fail('the server in the sandbox never answered')
}

async function withCounter(options) {
  const sandbox = await Sandbox.create({ timeoutMs: 300_000, envs: { FROM_CREATE: 'yes' }, ...options })
  await sandbox.files.write('/home/user/counter.py', counter)
  const command = await sandbox.commands.run('python3 counter.py', { background: true, timeoutMs: 0 })
  return { sandbox, pid: command.pid }
}

test('what runs goes on after each pause', async () => {
  const { sandbox, pid } = await withCounter()
  try {
    const [server, first] = (await listening(sandbox)).split(' ')
    const boot = await bootID(sandbox)
    for (let cycle = 1; cycle <= 3; cycle++) {
      await sandbox.files.write('/home/user/cycle', String(cycle))
      assert.equal(await sandbox.pause(), true)
      assert.equal((await sandbox.getInfo()).state, 'paused')
      assert.equal(await sandbox.isRunning(), false)
      await sandbox.connect({ timeoutMs: 300_000 })
      assert.equal((await sandbox.getInfo()).state, 'running')
      assert.equal(await listening(sandbox), `${server} ${Number(first) + cycle}`)
      assert.equal(await sandbox.files.read('/home/user/cycle'), String(cycle))
    }
    assert.equal(await bootID(sandbox), boot)
    assert.ok((await sandbox.commands.list()).some((p) => p.pid === pid))
    assert.equal((await sandbox.commands.run('echo $FROM_CREATE')).stdout, 'yes\n')
    const inside = Number((await sandbox.commands.run('date +%s')).stdout)
    assert.ok(Math.abs(inside - Date.now() / 1000) < 60, `the clock inside says ${inside}`)
  } finally {
    await sandbox.kill()
  }
})

test('without memory the files stay and all else begins anew', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 300_000, envs: { FROM_CREATE: 'yes' } })
  try {
    await sandbox.files.write('/home/user/file', 'kept')
    const boot = await bootID(sandbox)
    assert.equal(await sandbox.pause({ keepMemory: false }), true)
    await sandbox.connect({ timeoutMs: 300_000 })
    assert.equal(await sandbox.files.read('/home/user/file'), 'kept')
    assert.notEqual(await bootID(sandbox), boot)
    assert.equal((await sandbox.commands.run('echo $FROM_CREATE')).stdout, 'yes\n')
  } finally {
    await sandbox.kill()
  }
})

test('a paused sandbox is listed, paused once, and killed', async () => {
  const metadata = { suite: `pause-${process.pid}-${Date.now()}` }
  const sandbox = await Sandbox.create({ timeoutMs: 300_000, metadata })
  assert.equal(await sandbox.pause(), true)
  assert.equal(await sandbox.pause(), false)
  const list = async (state) => (await Sandbox.list({ query: { metadata, state } }).nextItems()).map((s) => s.sandboxId)
  assert.deepEqual(await list(['paused']), [sandbox.sandboxId])
  assert.deepEqual(await list(['running']), [])
  assert.deepEqual(await list(), [sandbox.sandboxId])
  assert.equal(await sandbox.kill(), true)
  assert.deepEqual(await list(), [])
  await assert.rejects(sandbox.connect(), NotFoundError)
})

test('traffic wakes what its deadline has paused', async () => {
  const { sandbox } = await withCounter({ lifecycle: { onTimeout: 'pause', autoResume: true } })
  try {
    const [server] = (await listening(sandbox)).split(' ')
    await sandbox.setTimeout(0)
    assert.equal((await sandbox.getInfo()).state, 'paused')
    const answers = await Promise.all([1, 2, 3, 4].map(() => ask(sandbox).then((answer) => answer.text())))
    for (const answer of answers) assert.equal(answer.split(' ')[0], server)
    const info = await sandbox.getInfo()
    assert.equal(info.state, 'running')
    assert.ok(info.endAt.getTime() > Date.now() + 200_000, `it ends at ${info.endAt}`)
    await sandbox.setTimeout(0)
    assert.equal((await sandbox.commands.run('echo awake')).stdout, 'awake\n')
  } finally {
    await sandbox.kill()
  }
})
