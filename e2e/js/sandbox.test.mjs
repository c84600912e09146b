// The official SDK, unmodified, against a server whose address is in the
// environment as a user would set it: E2B_API_URL, E2B_SANDBOX_URL, E2B_API_KEY.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { CommandExitError, NotFoundError, Sandbox, TimeoutError } from 'e2b'

const text = (data) => new TextDecoder().decode(data)

describe('a sandbox', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create({ timeoutMs: 900_000, metadata: { suite: 'js' }, envs: { FROM_CREATE: 'yes' } })
  })
  after(() => sandbox?.kill())

  test('runs a command and returns what it prints', async () => {
    const result = await sandbox.commands.run('echo out; echo err >&2')
    assert.equal(result.stdout, 'out\n')
    assert.equal(result.stderr, 'err\n')
    assert.equal(result.exitCode, 0)
  })

  test('runs commands as the user "user" in its home', async () => {
    const result = await sandbox.commands.run('whoami; pwd')
    assert.equal(result.stdout, 'user\n/home/user\n')
  })

  test('runs commands as root when asked to', async () => {
    const result = await sandbox.commands.run('whoami', { user: 'root' })
    assert.equal(result.stdout, 'root\n')
  })

  test('reports an exit code', async () => {
    await assert.rejects(sandbox.commands.run('exit 3'), (err) => err instanceof CommandExitError && err.exitCode === 3)
  })

  test('streams output while the command runs', async () => {
    const chunks = []
    let first
    const seen = new Promise((resolve) => (first = resolve))
    const running = sandbox.commands.run('echo one; read -r line; echo "$line"', {
      background: true,
      stdin: true,
      onStdout: (chunk) => {
        chunks.push(chunk)
        first()
      },
    })
    const command = await running
    await seen
    assert.deepEqual(chunks, ['one\n'])
    await sandbox.commands.sendStdin(command.pid, 'two\n')
    const result = await command.wait()
    assert.equal(result.stdout, 'one\ntwo\n')
  })

  test('keeps a background command running, lists it, and kills it', async () => {
    const command = await sandbox.commands.run('sleep 300', { background: true })
    const pids = (await sandbox.commands.list()).map((process) => process.pid)
    assert.ok(pids.includes(command.pid))
    assert.equal(await command.kill(), true)
    await assert.rejects(command.wait(), CommandExitError)
    assert.equal(await sandbox.commands.kill(command.pid), false)
  })

  test('gives a running command to another connection', async () => {
    const command = await sandbox.commands.run('read -r line; echo "got $line"', { background: true, stdin: true })
    await command.disconnect()
    const again = await sandbox.commands.connect(command.pid)
    await sandbox.commands.sendStdin(command.pid, 'it\n')
    assert.equal((await again.wait()).stdout, 'got it\n')
  })

  test('ends a command at its deadline', async () => {
    await assert.rejects(sandbox.commands.run('sleep 60', { timeoutMs: 500 }), TimeoutError)
  })

  test('layers environment variables', async () => {
    const result = await sandbox.commands.run('echo $FROM_CREATE $FROM_COMMAND $HOME $E2B_SANDBOX $E2B_SANDBOX_ID', { envs: { FROM_COMMAND: 'too' } })
    assert.equal(result.stdout, `yes too /home/user true ${sandbox.sandboxId}\n`)
  })

  test('carries 20 MB of output without losing a byte', async () => {
    const result = await sandbox.commands.run('head -c 20000000 /dev/zero | tr "\\0" x', { timeoutMs: 60_000 })
    assert.equal(result.stdout, 'x'.repeat(20_000_000))
  })

  test('has a terminal that can be resized', async () => {
    let output = ''
    let wake = () => {}
    const terminal = await sandbox.pty.create({
      cols: 80,
      rows: 24,
      onData: (data) => {
        output += text(data)
        wake()
      },
    })
    const until = async (pattern) => {
      while (!pattern.test(output)) await new Promise((resolve) => (wake = resolve))
    }
    await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size\n'))
    await until(/24 80/)
    await sandbox.pty.resize(terminal.pid, { cols: 100, rows: 40 })
    await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('stty size; exit 7\n'))
    await until(/40 100/)
    await assert.rejects(terminal.wait(), (err) => err.exitCode === 7)
  })

  test('reads, writes, lists, renames and removes files', async () => {
    await sandbox.files.write('notes/a.txt', 'hello')
    assert.equal(await sandbox.files.read('notes/a.txt'), 'hello')
    assert.equal(await sandbox.files.exists('/home/user/notes/a.txt'), true)
    const info = await sandbox.files.getInfo('notes/a.txt')
    assert.equal(info.owner, 'user')
    assert.equal(info.size, 5)
    await sandbox.files.rename('notes/a.txt', 'notes/b.txt')
    assert.deepEqual((await sandbox.files.list('notes')).map((entry) => entry.name), ['b.txt'])
    await sandbox.files.remove('notes/b.txt')
    assert.equal(await sandbox.files.exists('notes/b.txt'), false)
    await assert.rejects(sandbox.files.read('notes/b.txt'), NotFoundError)
  })

  test('makes a directory once', async () => {
    assert.equal(await sandbox.files.makeDir('made/deep'), true)
    assert.equal(await sandbox.files.makeDir('made/deep'), false)
  })

  test('writes several files at once, and empty ones', async () => {
    await sandbox.files.write([
      { path: 'many/1.txt', data: '1' },
      { path: 'many/2.txt', data: '' },
    ])
    assert.equal(await sandbox.files.read('many/1.txt'), '1')
    assert.equal(await sandbox.files.read('many/2.txt'), '')
  })

  test('takes back bytes as they were', async () => {
    const bytes = new Uint8Array(5_000_000).map((_, i) => (i * 7919) % 256)
    await sandbox.files.write('bytes', new Blob([bytes]))
    assert.deepEqual(await sandbox.files.read('bytes', { format: 'bytes' }), bytes)
  })

  test('reads a file of the kernel, whose size says nothing', async () => {
    assert.match(await sandbox.files.read('/proc/sys/kernel/random/boot_id'), /^[0-9a-f-]{36}\n?$/)
  })

  test('is found in the list by its metadata', async () => {
    const page = await Sandbox.list({ query: { metadata: { suite: 'js' } } }).nextItems()
    assert.ok(page.some((item) => item.sandboxId === sandbox.sandboxId))
    const none = await Sandbox.list({ query: { metadata: { suite: 'none' } } }).nextItems()
    assert.deepEqual(none, [])
  })

  test('tells about itself', async () => {
    const info = await sandbox.getInfo()
    assert.equal(info.sandboxId, sandbox.sandboxId)
    assert.equal(info.templateId, 'base')
    assert.deepEqual(info.metadata, { suite: 'js' })
    assert.equal(info.state, 'running')
  })

  test('can be connected to from elsewhere', async () => {
    const again = await Sandbox.connect(sandbox.sandboxId)
    assert.equal((await again.commands.run('echo same')).stdout, 'same\n')
  })

  test('lives longer when asked to, and its deadline can be moved', async () => {
    await sandbox.setTimeout(600_000)
    const later = (await sandbox.getInfo()).endAt
    await sandbox.setTimeout(300_000)
    const sooner = (await sandbox.getInfo()).endAt
    assert.ok(sooner < later)
    await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 1_000 })
    assert.deepEqual((await sandbox.getInfo()).endAt, sooner, 'connecting never shortens')
  })

  test('has a server inside that is reached through the proxy', async () => {
    await sandbox.files.write('site/index.html', 'from inside')
    await sandbox.commands.run('cd site && exec python3 -m http.server --bind 127.0.0.1 8000', { background: true })
    const url = process.env.E2B_SANDBOX_URL
    const get = () => fetch(url, { headers: { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '8000' } })
    let response = await get()
    for (let i = 0; i < 100 && response.status === 502; i++) {
      assert.equal((await response.json()).message, 'The sandbox is running but port is not open')
      response = await get()
    }
    assert.equal(response.status, 200)
    assert.equal(await response.text(), 'from inside')
  })
})

test('killing a sandbox twice is true, then false, and it is gone', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  assert.equal(await sandbox.isRunning(), true)
  assert.equal(await sandbox.kill(), true)
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await Sandbox.kill(sandbox.sandboxId), false)
  await assert.rejects(Sandbox.getInfo(sandbox.sandboxId), NotFoundError)
})

test('a sandbox that is killed ends the commands that run in it with an error', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  const command = await sandbox.commands.run('sleep 60', { background: true })
  const waiting = assert.rejects(command.wait(), TimeoutError)
  await sandbox.kill()
  await waiting
})

test('a sandbox ends at its deadline', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  await sandbox.setTimeout(0)
  for (let i = 0; i < 200 && (await sandbox.isRunning()); i++);
  assert.equal(await sandbox.isRunning(), false)
})

test('an unknown template is refused', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), /no-such-template/)
})
