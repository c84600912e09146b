// The official CLI, unmodified, against a server whose address is in the
// environment as a user would set it: E2B_API_URL, E2B_SANDBOX_URL, E2B_API_KEY.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Sandbox } from 'e2b'

const program = join(import.meta.dirname, 'node_modules', '.bin', 'e2b')

describe('the CLI', () => {
  let home // without the settings of the person who runs the tests
  let sandboxId
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'cli-'))
  })
  after(async () => {
    if (sandboxId) await Sandbox.kill(sandboxId)
    await rm(home, { recursive: true, force: true })
  })

  // e2b returns how the CLI ended and what it printed.
  function e2b(args, input = '') {
    const child = spawn(program, args, {
      cwd: home,
      env: { ...process.env, HOME: home, NO_UPDATE_NOTIFIER: '1', NO_COLOR: '1', FORCE_COLOR: '0' },
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => (stdout += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk) => (stderr += chunk))
    child.stdin.on('error', () => {}) // it may end before it has read all
    child.stdin.end(input)
    return new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code) => resolve({ code, stdout, stderr }))
    })
  }

  async function succeeds(args, input) {
    const result = await e2b(args, input)
    assert.equal(result.code, 0, `e2b ${args.join(' ')}: ${result.stdout}${result.stderr}`)
    return result.stdout
  }

  test('creates a sandbox', async () => {
    // Where no terminal is, the CLI prints the id alone.
    sandboxId = (await succeeds(['sandbox', 'create', '--detach', '--timeout', '300', 'base'])).trim()
    assert.match(sandboxId, /^[a-z0-9]+$/)
    assert.ok(await Sandbox.getInfo(sandboxId))
  })

  test('lists it and tells of it', async () => {
    const list = JSON.parse(await succeeds(['sandbox', 'list', '--format', 'json']))
    assert.deepEqual(list.filter((one) => one.sandboxId === sandboxId).map((one) => one.state), ['running'])
    assert.match(await succeeds(['sandbox', 'list']), new RegExp(sandboxId))
    const info = JSON.parse(await succeeds(['sandbox', 'info', '--format', 'json', sandboxId]))
    assert.equal(info.sandboxId, sandboxId)
  })

  test('runs commands in it, with their output and their exit code', async () => {
    const result = await e2b(['sandbox', 'exec', '-e', 'WHAT=printed', sandboxId, '--', 'sh', '-c', 'echo $WHAT; echo wrong >&2; exit 7'])
    assert.equal(result.code, 7, result.stderr)
    assert.equal(result.stdout, 'printed\n')
    assert.match(result.stderr, /wrong/)
    assert.equal(await succeeds(['sandbox', 'exec', '-u', 'root', '-c', '/tmp', sandboxId, '--', 'sh', '-c', 'whoami; pwd']), 'root\n/tmp\n')
  })

  test('passes a command what is piped to it', async () => {
    const piped = 'line\n'.repeat(10_000)
    assert.equal((await succeeds(['sandbox', 'exec', sandboxId, '--', 'wc', '-c'], piped)).trim(), String(piped.length))
  })

  test('kills it, and says so of one that is not there', async () => {
    const kill = await e2b(['sandbox', 'kill', sandboxId])
    assert.match(kill.stdout + kill.stderr, /has been killed/)
    const again = await e2b(['sandbox', 'kill', sandboxId])
    assert.match(again.stdout + again.stderr, /wasn't found/)
    const exec = await e2b(['sandbox', 'exec', sandboxId, '--', 'true'])
    assert.notEqual(exec.code, 0)
    sandboxId = undefined
  })
})
