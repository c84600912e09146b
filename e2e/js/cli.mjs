// Runs the official CLI as a user does: in a directory and a home of its own,
// without the settings of the person who runs the tests.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'

const program = join(import.meta.dirname, 'node_modules', '.bin', 'e2b')

// cli returns what runs it, for one file of tests.
export function cli() {
  const home = mkdtempSync(join(tmpdir(), 'cli-'))
  after(() => rmSync(home, { recursive: true, force: true }))

  // start returns the running program; before is what it is an argument of.
  const start = (args, before = []) => {
    const [command, ...rest] = [...before, program, ...args]
    const child = spawn(command, rest, {
      cwd: home,
      env: { ...process.env, HOME: home, NO_UPDATE_NOTIFIER: '1', NO_COLOR: '1', FORCE_COLOR: '0' },
    })
    child.stdin.on('error', () => {}) // it may end before it has read all
    return child
  }

  // e2b returns how it ended and what it printed.
  const e2b = (args, input = '') => {
    const child = start(args)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => (stdout += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk) => (stderr += chunk))
    child.stdin.end(input)
    return new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code) => resolve({ code, stdout, stderr }))
    })
  }

  const succeeds = async (args, input) => {
    const result = await e2b(args, input)
    assert.equal(result.code, 0, `e2b ${args.join(' ')}: ${result.stdout}${result.stderr}`)
    return result.stdout
  }

  // fails returns what it says.
  const fails = async (args) => {
    const result = await e2b(args)
    assert.notEqual(result.code, 0, `e2b ${args.join(' ')}: ${result.stdout}${result.stderr}`)
    return result.stdout + result.stderr
  }

  return { home, start, e2b, succeeds, fails }
}
