// The official CLI, unmodified, against a server whose address is in the
// environment as a user would set it: E2B_API_URL, E2B_SANDBOX_URL, E2B_API_KEY.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Sandbox } from 'e2b'
import { cli } from './cli.mjs'

describe('the CLI', () => {
  const { start, e2b, succeeds } = cli()
  let sandboxId
  after(async () => {
    if (sandboxId) await Sandbox.kill(sandboxId)
  })

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

  test('opens a terminal', async () => {
    // It wants a terminal itself.
    const pty = 'import pty, sys; pty.spawn(sys.argv[1:])'
    const child = start(['sandbox', 'connect', '-u', 'root', '-c', '/tmp', sandboxId], ['python3', '-c', pty])
    let printed = ''
    let asked = false
    const late = setTimeout(() => child.kill('SIGKILL'), 60_000)
    await new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', resolve)
      child.stdout.setEncoding('utf8').on('data', (chunk) => {
        printed += chunk
        if (!asked && printed.includes('# ')) {
          asked = true
          child.stdin.write('echo $((6*7)) $PWD $(whoami); exit\n')
        }
      })
    })
    clearTimeout(late)
    assert.match(printed, /42 \/tmp root/)
  })

  test('tells of what it used and printed', async () => {
    // Both are looked at every few seconds.
    const until = async (args, there) => {
      const end = Date.now() + 90_000
      for (;;) {
        const said = await succeeds(args)
        if (there.test(said)) return
        assert.ok(Date.now() < end, `e2b ${args.join(' ')} says ${said}`)
      }
    }
    await until(['sandbox', 'metrics', sandboxId], /CPU: .*Cores/)
    await until(['sandbox', 'logs', sandboxId], /message: .*printed/)
  })

  test('pauses and resumes it', async () => {
    assert.match(await succeeds(['sandbox', 'pause', sandboxId]), /has been paused/)
    assert.match(await succeeds(['sandbox', 'list', '--state', 'paused']), new RegExp(sandboxId))
    assert.match(await succeeds(['sandbox', 'resume', sandboxId]), /has been resumed/)
    assert.equal(await succeeds(['sandbox', 'exec', sandboxId, '--', 'echo', 'there']), 'there\n')
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
